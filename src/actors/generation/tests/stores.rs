//! Stores in memory that fail when a test says so.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::budget::{Amount, Cap, Purse};
use crate::domain::ids::{ScenarioId, SceneId, TurnId, UserId};
use crate::domain::scenario::{Scenario, ScenarioChange, Scene};
use crate::storage::budget::{BudgetStore, NewReservation, OpenReservation, Reserved, Taken};
use crate::storage::bus::{BusError, ReplicaBus};
use crate::storage::embedded::{MemoryBus, MemoryLog};
use crate::storage::log::{
    Batch, Claim, Fence, LogError, LogPage, LogStore, News, Origin, SETTLING,
};
use crate::storage::scenario::ScenarioStore;
use crate::storage::{Page, StoreError};

#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u8)]
pub enum Fault {
    None,
    Down,
    Hang,
    /// What is asked waits until this is over.
    Hold,
}

/// A switch that tests turn.
#[derive(Default)]
pub struct Switch(AtomicU8);

impl Switch {
    pub fn set(&self, fault: Fault) {
        self.0.store(fault as u8, Ordering::SeqCst);
    }

    /// Whether the store answers; never returns when it hangs.
    async fn is_up(&self) -> bool {
        while self.0.load(Ordering::SeqCst) == Fault::Hold as u8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match self.0.load(Ordering::SeqCst) {
            0 => true,
            1 => false,
            _ => std::future::pending().await,
        }
    }
}

/// One replica's way to the log that all of them share.
pub struct FaultyLog {
    pub inner: Arc<MemoryLog>,
    pub fault: Switch,
    pub reads: Switch,
    /// When logs were lost: for a while nobody begins them who does not remember them.
    lost: Mutex<HashMap<ScenarioId, Instant>>,
    /// So many appends are taken and then reported as failed.
    pub lies: AtomicUsize,
    /// The way of all replicas, which a fault cuts for each.
    all: Option<Arc<FaultyLog>>,
}

impl Default for FaultyLog {
    fn default() -> Self {
        Self {
            inner: Arc::new(MemoryLog::shared()),
            fault: Switch::default(),
            reads: Switch::default(),
            lost: Mutex::default(),
            lies: AtomicUsize::default(),
            all: None,
        }
    }
}

impl FaultyLog {
    /// A replica's own way.
    pub fn line(self: &Arc<Self>) -> Self {
        Self { inner: Arc::clone(&self.inner), all: Some(Arc::clone(self)), ..Self::default() }
    }

    /// Loses a log as a store does that comes back empty.
    pub async fn lose(&self, scenario: ScenarioId) {
        self.all().lost.lock().unwrap().insert(scenario, Instant::now());
        self.inner.delete(scenario).await.unwrap();
    }

    /// How long this log is still left to those who remember it.
    async fn unsettled(&self, scenario: ScenarioId) -> Option<Duration> {
        let lost = self.all().lost.lock().unwrap().get(&scenario).copied()?;
        let wait = SETTLING.checked_sub(lost.elapsed()).filter(|wait| !wait.is_zero())?;
        self.inner.read(scenario, 0, 0).await.unwrap().is_none().then_some(wait)
    }

    fn all(&self) -> &Self {
        self.all.as_deref().unwrap_or(self)
    }

    async fn up(&self) -> Result<(), LogError> {
        match self.fault.is_up().await && self.all().fault.is_up().await {
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
        if origin == Origin::Lost
            && let Some(wait) = self.unsettled(scenario).await
        {
            return Ok(Claim::Unsettled { wait });
        }
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
        match self.all().lies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lie) {
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
        if !(self.reads.is_up().await && self.all().reads.is_up().await) {
            return Err(LogError::Unavailable("as the test says".into()));
        }
        self.inner.read(scenario, after, max_bytes).await
    }

    fn follow(&self, scenario: ScenarioId) -> Option<News> {
        self.inner.follow(scenario)
    }

    fn follow_orphans(&self) -> Option<News> {
        self.inner.follow_orphans()
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

/// The bus that replicas share.
#[derive(Default)]
pub struct FaultyBus {
    inner: MemoryBus,
    pub fault: Switch,
    /// Of every so many messages one gets lost; 0 is none.
    pub lost_of: AtomicUsize,
    sent: AtomicUsize,
}

impl FaultyBus {
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl ReplicaBus for FaultyBus {
    async fn send(&self, to: &str, message: Bytes) -> Result<bool, BusError> {
        if !self.fault.is_up().await {
            return Err(BusError::Unavailable("as the test says".into()));
        }
        let sent = self.sent.fetch_add(1, Ordering::SeqCst);
        match self.lost_of.load(Ordering::SeqCst) {
            0 => self.inner.send(to, message).await,
            of if sent % of == of - 1 => Ok(true),
            _ => self.inner.send(to, message).await,
        }
    }

    async fn listen(&self, name: &str) -> Result<mpsc::Receiver<Bytes>, BusError> {
        self.inner.listen(name).await
    }
}

/// What was spent on model calls.
#[derive(Default)]
pub struct Ledger {
    taken: Mutex<HashMap<Purse, Taken>>,
    open: Mutex<HashMap<Uuid, NewReservation>>,
    pub fault: Switch,
}

impl Ledger {
    pub fn of(&self, purse: Purse) -> Taken {
        self.taken.lock().unwrap().get(&purse).copied().unwrap_or_default()
    }

    pub fn open(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    async fn up(&self) -> Result<(), StoreError> {
        match self.fault.is_up().await {
            true => Ok(()),
            false => Err(StoreError::Unavailable("as the test says".into())),
        }
    }
}

#[async_trait]
impl BudgetStore for Ledger {
    async fn reserve(&self, reservation: &NewReservation) -> Result<Reserved, StoreError> {
        self.up().await?;
        let mut taken = self.taken.lock().unwrap();
        let refuses = |(purse, cap): &&(Purse, Cap)| {
            let taken = taken.get(purse).copied().unwrap_or_default();
            !cap.allows(taken.all(), reservation.amount)
        };
        if let Some((purse, _)) = reservation.purses.iter().find(refuses) {
            return Ok(Reserved::Exhausted(*purse));
        }
        for (purse, _) in &reservation.purses {
            let taken = taken.entry(*purse).or_default();
            taken.reserved = taken.reserved.plus(reservation.amount);
        }
        self.open.lock().unwrap().insert(reservation.id, reservation.clone());
        Ok(Reserved::Granted)
    }

    async fn settle(&self, id: Uuid, spent: Amount) -> Result<bool, StoreError> {
        self.up().await?;
        let Some(settled) = self.open.lock().unwrap().remove(&id) else { return Ok(false) };
        let mut taken = self.taken.lock().unwrap();
        for (purse, _) in settled.purses {
            let taken = taken.entry(purse).or_default();
            taken.reserved = taken.reserved.minus(settled.amount);
            taken.spent = taken.spent.plus(spent);
        }
        Ok(true)
    }

    async fn list_open(&self, turn: TurnId) -> Result<Vec<OpenReservation>, StoreError> {
        self.up().await?;
        let open = self.open.lock().unwrap();
        let of_turn = open.values().filter(|reservation| reservation.turn == turn);
        Ok(of_turn.map(|of| OpenReservation { id: of.id, amount: of.amount }).collect())
    }

    async fn list_due(
        &self,
        _now: Timestamp,
        _limit: usize,
    ) -> Result<Vec<OpenReservation>, StoreError> {
        Ok(Vec::new())
    }

    async fn look(&self, purses: &[Purse]) -> Result<Vec<Taken>, StoreError> {
        self.up().await?;
        Ok(purses.iter().map(|purse| self.of(*purse)).collect())
    }

    async fn purge(&self, _now: Timestamp, _limit: usize) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.up().await
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

    /// The scene whose text has these words.
    pub fn scene_with(&self, scenario: ScenarioId, words: &str) -> Option<SceneId> {
        let kept = self.kept.lock().unwrap();
        kept.get(&scenario)?
            .1
            .values()
            .find(|scene| scene.text.contains(words))
            .map(|scene| scene.id)
    }

    pub fn count(&self, scenario: ScenarioId) -> usize {
        self.kept.lock().unwrap()[&scenario].1.len()
    }

    pub fn scenarios(&self) -> usize {
        self.kept.lock().unwrap().len()
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
