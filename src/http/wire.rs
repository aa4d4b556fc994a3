//! The shapes of the API that more than one resource shows. Made from domain values, never from rows.

use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::patch::Object;
use crate::domain::scenario::{Choice, Length, Scenario, Scene, Via};
use crate::domain::user::{Grant, User};

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub struct UserView {
    #[schema(format = "uuid")]
    id: String,
    email: String,
    display_name: String,
    /// `reader`, `moderator` or `admin`.
    role: &'static str,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email,
            display_name: user.display_name,
            role: user.role.as_str(),
            created_at: user.created_at,
            updated_at: user.updated_at,
        }
    }
}

/// A pair of tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub struct TokensView {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Life of the access token in seconds.
    expires_in: u64,
    refresh_token: String,
    /// Left out by a refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserView>,
}

impl TokensView {
    pub fn with_user(grant: Grant) -> Self {
        let user = Some(grant.user.clone().into());
        Self { user, ..Self::without_user(grant) }
    }

    pub fn without_user(grant: Grant) -> Self {
        let tokens = grant.tokens;
        Self {
            access_token: tokens.access_token.expose_secret().to_owned(),
            token_type: "Bearer",
            expires_in: tokens.expires_in.as_secs(),
            refresh_token: tokens.refresh_token.expose_secret().to_owned(),
            user: None,
        }
    }
}

/// A scenario's record without the scene it stands at.
#[derive(Serialize, ToSchema)]
struct ScenarioHead {
    #[schema(format = "uuid")]
    id: String,
    title: String,
    prompt: String,
    genre: Option<String>,
    tone: Option<String>,
    #[schema(value_type = String, example = "medium")]
    length: Length,
    language: String,
    provider: Option<String>,
    model: Option<String>,
    seed: u64,
    tags: Vec<String>,
    favorite: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
    scene_count: u32,
}

impl From<Scenario> for ScenarioHead {
    fn from(scenario: Scenario) -> Self {
        Self {
            id: scenario.id.to_string(),
            title: scenario.title,
            prompt: scenario.prompt,
            genre: scenario.genre,
            tone: scenario.tone,
            length: scenario.length,
            language: scenario.language,
            provider: scenario.provider,
            model: scenario.model,
            seed: scenario.seed,
            tags: scenario.tags,
            favorite: scenario.favorite,
            created_at: scenario.created_at,
            updated_at: scenario.updated_at,
            scene_count: scenario.scene_count,
        }
    }
}

/// A scenario's record.
#[derive(Serialize, ToSchema)]
#[schema(as = Scenario)]
pub struct ScenarioView {
    #[serde(flatten)]
    head: ScenarioHead,
    /// Id of the scene that the story goes on from; `null` until the first one is stored.
    current_scene: Option<String>,
}

impl From<Scenario> for ScenarioView {
    fn from(scenario: Scenario) -> Self {
        let current_scene = scenario.current_scene.map(|scene| scene.to_string());
        Self { head: scenario.into(), current_scene }
    }
}

/// A scenario with the scene it stands at.
#[derive(Serialize, ToSchema)]
#[schema(as = ScenarioDetail)]
pub struct ScenarioDetailView {
    #[serde(flatten)]
    head: ScenarioHead,
    /// The scene that the story goes on from; `null` until the first one is stored.
    current_scene: Option<SceneView>,
}

impl ScenarioDetailView {
    pub fn new(scenario: Scenario, current: Option<Scene>) -> Self {
        Self { head: scenario.into(), current_scene: current.map(Into::into) }
    }
}

/// One immutable node of a scenario's tree.
#[derive(Serialize, ToSchema)]
#[schema(as = Scene)]
pub struct SceneView {
    #[schema(example = "n7")]
    id: String,
    parent: Option<String>,
    via: ViaView,
    text: String,
    choices: Vec<ChoiceView>,
    /// The world state after this scene.
    #[schema(value_type = Object)]
    state: Object,
    /// Whoever wrote it first.
    provider: String,
    model: String,
    /// Everyone who wrote it, in order, with where each took over.
    authors: Vec<AuthorView>,
    usage: UsageView,
    /// `complete`, `stopped`, `length` or `failed`.
    finish: &'static str,
    /// Lower-case hex SHA-256 of `text` in UTF-8.
    hash: String,
    created_at: Timestamp,
}

/// What led to a scene: `prompt`, `choose`, `say`, `retry` or `edit`.
#[derive(Serialize, ToSchema)]
#[schema(as = Via)]
pub struct ViaView {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The scene told anew or rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
}

/// One offered way on.
#[derive(Serialize, ToSchema)]
#[schema(as = Choice)]
pub struct ChoiceView {
    #[schema(example = "c2")]
    id: String,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A provider and model, and the UTF-16 offset from which on it wrote.
#[derive(Serialize, ToSchema)]
#[schema(as = Author)]
pub struct AuthorView {
    provider: String,
    model: String,
    off: usize,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub struct UsageView {
    input_tokens: u64,
    output_tokens: u64,
}

impl From<Scene> for SceneView {
    fn from(scene: Scene) -> Self {
        let first = scene.authors.first();
        Self {
            id: scene.id.to_string(),
            parent: scene.parent.map(|parent| parent.to_string()),
            provider: first.map(|author| author.provider.clone()).unwrap_or_default(),
            model: first.map(|author| author.model.clone()).unwrap_or_default(),
            via: scene.via.into(),
            text: scene.text,
            choices: scene.choices.into_iter().map(Into::into).collect(),
            state: scene.state,
            authors: scene
                .authors
                .into_iter()
                .map(|author| AuthorView {
                    provider: author.provider,
                    model: author.model,
                    off: author.off,
                })
                .collect(),
            usage: UsageView {
                input_tokens: scene.usage.input_tokens,
                output_tokens: scene.usage.output_tokens,
            },
            finish: scene.finish.as_str(),
            hash: scene.hash,
            created_at: scene.created_at,
        }
    }
}

impl From<Via> for ViaView {
    fn from(via: Via) -> Self {
        let (kind, choice, text, of) = match via {
            Via::Prompt => ("prompt", None, None, None),
            Via::Choose { choice, text } => ("choose", Some(choice), Some(text), None),
            Via::Say { text } => ("say", None, Some(text), None),
            Via::Retry { of, choice, text } => ("retry", choice, text, Some(of)),
            Via::Edit { of } => ("edit", None, None, Some(of)),
            Via::Jump => ("jump", None, None, None),
        };
        Self { kind, choice, text, of: of.map(|scene| scene.to_string()) }
    }
}

impl From<Choice> for ChoiceView {
    fn from(choice: Choice) -> Self {
        Self { id: choice.id, label: choice.label, hint: choice.hint }
    }
}

/// A snapshot frame's content, the same for sockets and SSE.
pub fn snapshot(
    scenario: &str,
    epoch: &str,
    snapshot: crate::actors::generation::Snapshot,
) -> Value {
    let scenes: Vec<SceneView> = snapshot.scenes.into_iter().map(Into::into).collect();
    serde_json::json!({
        "type": "snapshot",
        "scenario": scenario,
        "epoch": epoch,
        "seq": snapshot.seq,
        "scenes": scenes,
        "open_turn": snapshot.open_turn,
    })
}
