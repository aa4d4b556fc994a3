//! What a provider is told for a scene: the brief, the way there, the state of the world, what the reader did.
//!
//! Asked for by turns, and by calls that are begun ahead of one; both have to be told the same. It knows no log.

use std::sync::Arc;

use super::draft::Draft;
use super::{GenerationDeps, chapters};
use crate::domain::ids::SceneId;
use crate::domain::patch::Object;
use crate::domain::scenario::{Scenario, Scene, Via};
use crate::error::ServiceError;
use crate::providers::text::{Brief, Chapter, PastScene, StoryRequest};

/// What came before the scene.
pub struct Context {
    pub brief: Arc<Brief>,
    pub path: Arc<Vec<PastScene>>,
    pub chapters: Arc<Vec<Chapter>>,
    pub state: Arc<Object>,
}

impl GenerationDeps {
    /// # Errors
    /// `scene_not_found`; `service_unavailable`, `timeout`.
    pub(super) async fn context(
        self: &Arc<Self>,
        scenario: &Arc<Scenario>,
        parent: Option<SceneId>,
    ) -> Result<Context, ServiceError> {
        let path = match parent {
            None => Vec::new(),
            Some(parent) => self.history.load_path(scenario.id, parent).await?,
        };
        if parent.is_some() && path.is_empty() {
            return Err(ServiceError::scene_not_found());
        }
        let state = path.last().map(|scene| scene.state.clone()).unwrap_or_default();
        let chapters = self.chapters(scenario, &path).await;
        let past = |scene: Scene| PastScene { via: scene.via, text: scene.text };
        Ok(Context {
            brief: Arc::new(Brief::of(scenario)),
            path: Arc::new(path.into_iter().map(past).collect()),
            chapters: Arc::new(chapters),
            state: Arc::new(state),
        })
    }

    /// What has been summed up of the way here. What is missing is begun to be, for the turns to come; only language
    /// models need any of it.
    async fn chapters(self: &Arc<Self>, scenario: &Arc<Scenario>, path: &[Scene]) -> Vec<Chapter> {
        let wanted = scenario.provider.as_deref();
        if self.texts.candidates(wanted).first().is_none_or(|text| text.meter.is_none()) {
            return Vec::new();
        }
        let found = self.chapters.find(scenario.id, path).await;
        if let Some(last) = path.last() {
            chapters::make_missing(self, scenario, last.turn, path, &found);
        }
        found
    }

    /// The scenario's own model, where it is this provider's.
    pub(super) fn model_for(&self, scenario: &Scenario, provider: &str) -> Option<String> {
        let wanted = scenario.provider.as_deref();
        let first = self.texts.iter().next().map(|text| text.name.as_str());
        (wanted.or(first) == Some(provider)).then(|| scenario.model.clone()).flatten()
    }

    /// Everything that a provider may use to go on with the draft.
    pub(super) fn request(
        &self,
        scenario: &Scenario,
        draft: &Draft,
        context: &Context,
        provider: &str,
    ) -> StoryRequest {
        let via = match &draft.via {
            Via::Retry { choice: Some(choice), text, .. } => {
                Via::Choose { choice: choice.clone(), text: text.clone().unwrap_or_default() }
            }
            Via::Retry { choice: None, text: Some(text), .. } => Via::Say { text: text.clone() },
            Via::Retry { .. } => Via::Prompt,
            via => via.clone(),
        };
        let told_anew = matches!(draft.via, Via::Retry { .. });
        StoryRequest {
            brief: Arc::clone(&context.brief),
            path: Arc::clone(&context.path),
            chapters: Arc::clone(&context.chapters),
            state: Arc::clone(&context.state),
            via,
            variation: if told_anew { draft.scene.0 } else { 0 },
            shown: draft.text.clone(),
            prose_done: draft.text_done,
            model: self.model_for(scenario, provider),
        }
    }
}
