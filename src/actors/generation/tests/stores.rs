//! Stores in memory that fail when a test says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::ids::{ScenarioId, SceneId, UserId};
use crate::domain::scenario::{Scenario, ScenarioChange, Scene};
use crate::storage::embedded::MemoryLog;
use crate::storage::log::{Batch, Claim, Fence, LogError, LogPage, LogStore, News, Origin};
use crate::storage::scenario::ScenarioStore;
use crate::storage::{Page, StoreError};

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Fault {
    None,
    Down,
    Hang,
}

/// A switch that tests turn.
#[derive(Default)]
pub struct Switch(AtomicU8);

impl Switch {
    pub fn set(&self, fault: Fault) {
        self.0.store(fault as u8, Ordering::SeqCst);
    }

    /// Whether the store answers; never returns while it hangs.
    async fn is_up(&self) -> bool {
        match self.0.load(Ordering::SeqCst) {
            0 => true,
            1 => false,
            _ => std::future::pending().await,
        }
    }
}

pub struct FaultyLog {
    pub inner: MemoryLog,
    pub fault: Switch,
    pub reads: Switch,
    /// So many appends are taken and then reported as failed.
    pub lies: AtomicUsize,
}

impl Default for FaultyLog {
    fn default() -> Self {
        Self {
            inner: MemoryLog::shared(),
            fault: Switch::default(),
            reads: Switch::default(),
            lies: AtomicUsize::default(),
        }
    }
}

impl FaultyLog {
    async fn up(&self) -> Result<(), LogError> {
        match self.fault.is_up().await {
            true => Ok(()),
            false => Err(LogError::Unavailable("as the test says".into())),
        }
    }
}

#[async_trait]
impl LogStore for FaultyLog {
    async fn claim(
        &self,
        scenario: ScenarioId,
        holder: &str,
        ttl: Duration,
        origin: Origin,
    ) -> Result<Claim, LogError> {
        self.up().await?;
        self.inner.claim(scenario, holder, ttl, origin).await
    }

    async fn renew(
        &self,
        leases: &[(ScenarioId, Fence)],
        ttl: Duration,
    ) -> Result<Vec<ScenarioId>, LogError> {
        self.up().await?;
        self.inner.renew(leases, ttl).await
    }

    async fn release(&self, scenario: ScenarioId, fence: Fence) -> Result<(), LogError> {
        self.up().await?;
        self.inner.release(scenario, fence).await
    }

    async fn append(
        &self,
        scenario: ScenarioId,
        fence: Fence,
        batch: Batch,
    ) -> Result<(), LogError> {
        self.up().await?;
        self.inner.append(scenario, fence, batch).await?;
        let lie = |lies: usize| lies.checked_sub(1);
        match self.lies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lie) {
            Ok(_) => Err(LogError::Unavailable("a lie".into())),
            Err(_) => Ok(()),
        }
    }

    async fn read(
        &self,
        scenario: ScenarioId,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<LogPage>, LogError> {
        self.up().await?;
        if !self.reads.is_up().await {
            return Err(LogError::Unavailable("as the test says".into()));
        }
        self.inner.read(scenario, after, max_bytes).await
    }

    fn follow(&self, scenario: ScenarioId) -> Option<News> {
        self.inner.follow(scenario)
    }

    async fn list_orphans(&self, limit: usize) -> Result<Vec<ScenarioId>, LogError> {
        self.up().await?;
        self.inner.list_orphans(limit).await
    }

    async fn trim(&self, scenario: ScenarioId, fence: Fence, up_to: u64) -> Result<(), LogError> {
        self.up().await?;
        self.inner.trim(scenario, fence, up_to).await
    }

    async fn delete(&self, scenario: ScenarioId) -> Result<(), LogError> {
        self.up().await?;
        self.inner.delete(scenario).await
    }
}

type Kept = (Scenario, BTreeMap<SceneId, Scene>);

#[derive(Default)]
pub struct Scenes {
    kept: Mutex<HashMap<ScenarioId, Kept>>,
    pub fault: Switch,
    /// For `put_scene` alone.
    pub puts: Switch,
}

impl Scenes {
    pub fn scene(&self, scenario: ScenarioId, scene: SceneId) -> Option<Scene> {
        self.kept.lock().unwrap().get(&scenario)?.1.get(&scene).cloned()
    }

    pub fn count(&self, scenario: ScenarioId) -> usize {
        self.kept.lock().unwrap()[&scenario].1.len()
    }

    pub fn current(&self, scenario: ScenarioId) -> Option<SceneId> {
        self.kept.lock().unwrap()[&scenario].0.current_scene
    }

    async fn with<T>(
        &self,
        act: impl FnOnce(&mut HashMap<ScenarioId, Kept>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.fault.is_up().await {
            true => act(&mut self.kept.lock().unwrap()),
            false => Err(StoreError::Unavailable("as the test says".into())),
        }
    }
}

#[async_trait]
impl ScenarioStore for Scenes {
    async fn create_scenario(&self, scenario: &Scenario) -> Result<(), StoreError> {
        let new = (scenario.clone(), BTreeMap::new());
        self.with(|kept| match kept.get(&scenario.id) {
            Some((known, _)) if known.owner != scenario.owner => Err(StoreError::Conflict("id")),
            Some(_) => Ok(()),
            None => {
                kept.insert(scenario.id, new);
                Ok(())
            }
        })
        .await
    }

    async fn find_scenario(&self, id: ScenarioId) -> Result<Option<Scenario>, StoreError> {
        self.with(|kept| Ok(kept.get(&id).map(|(scenario, _)| scenario.clone()))).await
    }

    async fn list_scenarios(
        &self,
        _owner: UserId,
        _limit: usize,
        _cursor: Option<&str>,
    ) -> Result<Page<Scenario>, StoreError> {
        Ok(Page { items: Vec::new(), next_cursor: None })
    }

    async fn update_scenario(
        &self,
        id: ScenarioId,
        _change: &ScenarioChange,
        _now: Timestamp,
    ) -> Result<Option<Scenario>, StoreError> {
        self.find_scenario(id).await
    }

    async fn delete_scenario(&self, id: ScenarioId, _now: Timestamp) -> Result<bool, StoreError> {
        self.with(|kept| Ok(kept.remove(&id).is_some())).await
    }

    async fn put_scene(&self, scene: &Scene) -> Result<(), StoreError> {
        if !self.puts.is_up().await {
            return Err(StoreError::Unavailable("as the test says".into()));
        }
        self.with(|kept| {
            let (scenario, scenes) =
                kept.get_mut(&scene.scenario).ok_or(StoreError::Conflict("gone"))?;
            match scenes.get(&scene.id) {
                Some(known) if known == scene => Ok(()),
                Some(_) => Err(StoreError::Conflict("another scene has that id")),
                None => {
                    scenes.insert(scene.id, scene.clone());
                    scenario.scene_count += 1;
                    scenario.current_scene = Some(scene.id);
                    Ok(())
                }
            }
        })
        .await
    }

    async fn set_current_scene(
        &self,
        id: ScenarioId,
        scene: SceneId,
        _now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.with(|kept| {
            let Some((scenario, scenes)) = kept.get_mut(&id) else { return Ok(false) };
            let there = scenes.contains_key(&scene);
            if there {
                scenario.current_scene = Some(scene);
            }
            Ok(there)
        })
        .await
    }

    async fn find_scene(
        &self,
        id: ScenarioId,
        scene: SceneId,
    ) -> Result<Option<Scene>, StoreError> {
        self.with(|kept| Ok(kept.get(&id).and_then(|(_, scenes)| scenes.get(&scene).cloned())))
            .await
    }

    async fn list_scenes(&self, id: ScenarioId) -> Result<Vec<Scene>, StoreError> {
        self.with(|kept| {
            Ok(kept.get(&id).into_iter().flat_map(|k| k.1.values().cloned()).collect())
        })
        .await
    }

    async fn load_path(&self, id: ScenarioId, scene: SceneId) -> Result<Vec<Scene>, StoreError> {
        self.with(|kept| {
            let Some((_, scenes)) = kept.get(&id) else { return Ok(Vec::new()) };
            let mut path: Vec<Scene> = Vec::new();
            let mut next = Some(scene);
            while let Some(scene) = next.and_then(|id| scenes.get(&id)) {
                path.push(scene.clone());
                next = scene.parent;
            }
            path.reverse();
            Ok(path)
        })
        .await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.with(|_| Ok(())).await
    }
}
