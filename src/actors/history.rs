//! The history service: scenarios and their scenes.
//!
//! Called by the gateway for its readers and by sessions for the turns they run. It decides who may see a scenario
//! (its owner) and nothing about how one is told.

use std::sync::Arc;
use std::time::Duration;

use super::circuit::Policy;
use super::pool::{self, PoolHandle, PoolSpec, Reply, Trip, Work};
use super::status::ServiceStatus;
use super::supervisor::{ChildSpec, Intensity};
use crate::clock::Clock;
use crate::domain::ids::{ScenarioId, SceneId, UserId};
use crate::domain::scenario::{Scenario, ScenarioChange, Scene};
use crate::error::ServiceError;
use crate::storage::Page;
use crate::storage::scenario::ScenarioStore;

/// Longest that one call of the store may take.
const DEADLINE: Duration = Duration::from_secs(5);
const WORKERS: usize = 16;
const CAPACITY: usize = 2_048;

/// The way to the history service; cheap to clone.
#[derive(Clone)]
pub struct HistoryHandle {
    store: PoolHandle<StoreWork>,
}

/// The service's row in the tree and the way to it.
pub fn build(
    store: Arc<dyn ScenarioStore>,
    clock: Clock,
    circuit: Policy,
) -> (HistoryHandle, ChildSpec, Arc<ServiceStatus>) {
    let spec = PoolSpec {
        name: "history.store",
        workers: WORKERS,
        capacity: CAPACITY,
        deadline: DEADLINE,
        panics: Intensity::new(5, Duration::from_secs(10)),
        circuit,
    };
    let store = PoolHandle::new(spec, StoreWork { store, clock });
    let status = ServiceStatus::new("history", vec![store.view()]);
    let child =
        ChildSpec::supervisor("history", vec![pool::child(&store)]).status(Arc::clone(&status));
    (HistoryHandle { store }, child, status)
}

impl HistoryHandle {
    /// # Errors
    /// `conflict` if the id belongs to another scenario; every call: `service_unavailable`, `timeout`.
    pub async fn create(&self, scenario: Scenario) -> Result<(), ServiceError> {
        self.store.call(|reply| Job::Create(Box::new(scenario), reply)).await
    }

    pub async fn find(&self, id: ScenarioId) -> Result<Option<Scenario>, ServiceError> {
        self.store.call(|reply| Job::Find(id, reply)).await
    }

    /// The scenario, if `user` may see it.
    ///
    /// # Errors
    /// `scenario_not_found` also for another user's: an id tells nothing.
    pub async fn find_owned(&self, id: ScenarioId, user: UserId) -> Result<Scenario, ServiceError> {
        self.find(id)
            .await?
            .filter(|scenario| scenario.owner == user)
            .ok_or_else(ServiceError::scenario_not_found)
    }

    /// # Errors
    /// `invalid_request` for a cursor that no list of this owner gave out.
    pub async fn list(
        &self,
        owner: UserId,
        limit: usize,
        cursor: Option<String>,
    ) -> Result<Page<Scenario>, ServiceError> {
        self.store.call(|reply| Job::List { owner, limit, cursor, reply }).await
    }

    pub async fn update(
        &self,
        id: ScenarioId,
        change: ScenarioChange,
    ) -> Result<Option<Scenario>, ServiceError> {
        self.store.call(|reply| Job::Update { id, change, reply }).await
    }

    /// Whether it was there.
    pub async fn delete(&self, id: ScenarioId) -> Result<bool, ServiceError> {
        self.store.call(|reply| Job::Delete(id, reply)).await
    }

    /// Stores a finished scene and makes it the current one; again is `Ok`.
    pub async fn put_scene(&self, scene: Arc<Scene>) -> Result<(), ServiceError> {
        self.store.call(|reply| Job::PutScene(scene, reply)).await
    }

    /// Whether scenario and scene are there.
    pub async fn set_current_scene(
        &self,
        id: ScenarioId,
        scene: SceneId,
    ) -> Result<bool, ServiceError> {
        self.store.call(|reply| Job::SetCurrent { id, scene, reply }).await
    }

    pub async fn find_scene(
        &self,
        id: ScenarioId,
        scene: SceneId,
    ) -> Result<Option<Scene>, ServiceError> {
        self.store.call(|reply| Job::FindScene { id, scene, reply }).await
    }

    /// Parents before children.
    pub async fn list_scenes(&self, id: ScenarioId) -> Result<Vec<Scene>, ServiceError> {
        self.store.call(|reply| Job::ListScenes(id, reply)).await
    }

    /// From the root to `scene`, both included; empty if it is not there.
    pub async fn load_path(
        &self,
        id: ScenarioId,
        scene: SceneId,
    ) -> Result<Vec<Scene>, ServiceError> {
        self.store.call(|reply| Job::LoadPath { id, scene, reply }).await
    }
}

enum Job {
    Create(Box<Scenario>, Reply<()>),
    Find(ScenarioId, Reply<Option<Scenario>>),
    List { owner: UserId, limit: usize, cursor: Option<String>, reply: Reply<Page<Scenario>> },
    Update { id: ScenarioId, change: ScenarioChange, reply: Reply<Option<Scenario>> },
    Delete(ScenarioId, Reply<bool>),
    PutScene(Arc<Scene>, Reply<()>),
    SetCurrent { id: ScenarioId, scene: SceneId, reply: Reply<bool> },
    FindScene { id: ScenarioId, scene: SceneId, reply: Reply<Option<Scene>> },
    ListScenes(ScenarioId, Reply<Vec<Scene>>),
    LoadPath { id: ScenarioId, scene: SceneId, reply: Reply<Vec<Scene>> },
}

struct StoreWork {
    store: Arc<dyn ScenarioStore>,
    clock: Clock,
}

impl Work for StoreWork {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        let store = &self.store;
        match job {
            Job::Create(scenario, reply) => reply.answer(store.create_scenario(&scenario).await),
            Job::Find(id, reply) => reply.answer(store.find_scenario(id).await),
            Job::List { owner, limit, cursor, reply } => {
                reply.answer(store.list_scenarios(owner, limit, cursor.as_deref()).await)
            }
            Job::Update { id, change, reply } => {
                reply.answer(store.update_scenario(id, &change, self.clock.now()).await)
            }
            Job::Delete(id, reply) => {
                reply.answer(store.delete_scenario(id, self.clock.now()).await)
            }
            Job::PutScene(scene, reply) => reply.answer(store.put_scene(&scene).await),
            Job::SetCurrent { id, scene, reply } => {
                reply.answer(store.set_current_scene(id, scene, self.clock.now()).await)
            }
            Job::FindScene { id, scene, reply } => reply.answer(store.find_scene(id, scene).await),
            Job::ListScenes(id, reply) => reply.answer(store.list_scenes(id).await),
            Job::LoadPath { id, scene, reply } => reply.answer(store.load_path(id, scene).await),
        }
    }

    async fn probe(&self) -> Result<(), Trip> {
        Ok(self.store.probe().await?)
    }
}
