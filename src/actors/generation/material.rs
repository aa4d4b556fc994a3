//! What a provider is told for a scene: the brief, the way there, the state of the world, what the reader did.
//!
//! Asked for by turns, and by calls that are begun ahead of one; both have to be told the same. It knows no log.

use std::sync::Arc;

use super::GenerationDeps;
use super::draft::Draft;
use crate::domain::ids::SceneId;
use crate::domain::patch::Object;
use crate::domain::scenario::{Scenario, Scene, Via};
use crate::error::ServiceError;
use crate::providers::text::{Brief, PastScene, StoryRequest};

/// What came before the scene.
pub struct Context {
    pub brief: Arc<Brief>,
    pub path: Arc<Vec<PastScene>>,
    pub state: Arc<Object>,
}

impl GenerationDeps {
    /// # Errors
    /// `scene_not_found`; `service_unavailable`, `timeout`.
    pub(super) async fn context(
        &self,
        scenario: &Scenario,
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
        let past = |scene: Scene| PastScene { via: scene.via, text: scene.text };
        Ok(Context {
            brief: Arc::new(Brief::of(scenario)),
            path: Arc::new(path.into_iter().map(past).collect()),
            state: Arc::new(state),
        })
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
            chapters: Arc::default(),
            state: Arc::clone(&context.state),
            via,
            variation: if told_anew { draft.scene.0 } else { 0 },
            shown: draft.text.clone(),
            prose_done: draft.text_done,
            model: self.model_for(scenario, provider),
        }
    }
}
