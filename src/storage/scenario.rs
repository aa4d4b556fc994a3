//! Scenarios and their scenes, as the history service keeps them.

use async_trait::async_trait;

use super::{Page, StoreError};
use crate::domain::ids::{ScenarioId, SceneId, UserId};
use crate::domain::scenario::{Scenario, ScenarioChange, Scene};

#[async_trait]
pub trait ScenarioStore: Send + Sync + 'static {
    /// Stores a new scenario. Storing the very same record again is `Ok`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the id belongs to another record.
    async fn create_scenario(&self, scenario: &Scenario) -> Result<(), StoreError>;

    /// The scenario, unless deleted. The caller checks who owns it.
    async fn find_scenario(&self, id: ScenarioId) -> Result<Option<Scenario>, StoreError>;

    /// The owner's scenarios, newest first, strongly consistent; at most 100 at once.
    ///
    /// # Errors
    /// [`StoreError::InvalidCursor`] if the cursor is not one of this owner's list.
    async fn list_scenarios(
        &self,
        owner: UserId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Scenario>, StoreError>;

    /// Applies a change; `Ok(None)` if there is no such scenario. `now` becomes `updated_at`.
    async fn update_scenario(
        &self,
        id: ScenarioId,
        change: &ScenarioChange,
        now: jiff::Timestamp,
    ) -> Result<Option<Scenario>, StoreError>;

    /// Soft delete: hidden from every read at once, purged later. Returns whether it was there.
    async fn delete_scenario(
        &self,
        id: ScenarioId,
        now: jiff::Timestamp,
    ) -> Result<bool, StoreError>;

    /// Stores a finished scene, makes it the scenario's current one and counts it, in one step.
    /// Storing the very same scene again is `Ok` and counts nothing.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if another scene has that id, the scenario is gone, or the parent's number is not lower,
    /// [`StoreError::TooLarge`] above the store's limit for a scene.
    async fn put_scene(&self, scene: &Scene) -> Result<(), StoreError>;

    /// Makes an existing scene the current one. `Ok(false)` if the scenario or the scene is not there.
    async fn set_current_scene(
        &self,
        scenario: ScenarioId,
        scene: SceneId,
        now: jiff::Timestamp,
    ) -> Result<bool, StoreError>;

    async fn find_scene(
        &self,
        scenario: ScenarioId,
        scene: SceneId,
    ) -> Result<Option<Scene>, StoreError>;

    /// All scenes of a scenario, parents before children (ascending ids).
    async fn list_scenes(&self, scenario: ScenarioId) -> Result<Vec<Scene>, StoreError>;

    /// The scenes from the root to `scene`, both included; empty if `scene` is not there.
    async fn load_path(
        &self,
        scenario: ScenarioId,
        scene: SceneId,
    ) -> Result<Vec<Scene>, StoreError>;

    /// Cheap round trip that tells whether the store answers.
    async fn probe(&self) -> Result<(), StoreError>;
}
