//! The event logs in memory: for measurements and tests of what lies above. Nothing survives the process.
//!
//! An append is one short critical section on one of many shards: no await, no allocation but the log's own growth.
//! Memory is bounded by what callers trim: trimmed events are freed at once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::bells::Bells;
use super::lease::Lease;
use super::new_epoch;
use crate::domain::event::Frame;
use crate::domain::ids::ScenarioId;
use crate::storage::log::{
    Batch, Claim, Extent, Fence, Lease as Granted, LogError, LogPage, LogStore, News, Origin,
};

const SHARDS: usize = 64;
/// Under which bells for orphans hang; no scenario has this id.
const ORPHANS: ScenarioId = ScenarioId(Uuid::nil());

type Shard = HashMap<ScenarioId, Log>;

/// All logs, in memory.
pub struct MemoryLog {
    shards: [Mutex<Shard>; SHARDS],
    /// One counter for all logs, so that a fence of a deleted log is never valid for its successor.
    last_fence: AtomicU64,
    /// Absent while one replica has the log to itself: nobody else appends.
    bells: Option<Arc<Bells>>,
}

#[cfg_attr(test, derive(Clone))]
struct Log {
    epoch: Arc<str>,
    lease: Option<Lease>,
    /// The newest `seq` that is no longer held.
    trimmed: u64,
    frames: VecDeque<Frame>,
    checkpoint: Option<Bytes>,
    open_turn: bool,
}

impl Log {
    fn new(origin: Origin) -> Self {
        Self {
            epoch: new_epoch(),
            lease: None,
            trimmed: origin.head(),
            frames: VecDeque::new(),
            checkpoint: None,
            open_turn: false,
        }
    }

    fn head(&self) -> u64 {
        self.trimmed + self.frames.len() as u64
    }

    fn extent(&self) -> Extent {
        Extent { epoch: Arc::clone(&self.epoch), first: self.trimmed + 1, head: self.head() }
    }

    fn is_owned_by(&self, fence: Fence) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.fence == fence)
    }

    fn append(&mut self, batch: Batch) -> Result<(), LogError> {
        let head = self.head();
        if batch.first_seq != head + 1 {
            return Err(LogError::OutOfSequence { head });
        }
        self.frames.extend(batch.frames);
        if batch.checkpoint.is_some() {
            self.checkpoint = batch.checkpoint;
        }
        self.open_turn = batch.open_turn.unwrap_or(self.open_turn);
        Ok(())
    }

    fn trim(&mut self, up_to: u64) -> Result<(), LogError> {
        let head = self.head();
        if up_to > head {
            return Err(LogError::OutOfSequence { head });
        }
        let count = up_to.saturating_sub(self.trimmed) as usize;
        self.frames.drain(..count);
        self.frames.shrink_to(self.frames.len() * 2);
        self.trimmed += count as u64;
        Ok(())
    }

    fn page(&self, after: u64, max_bytes: usize) -> LogPage {
        let skip = usize::try_from(after.saturating_sub(self.trimmed)).unwrap_or(usize::MAX);
        let mut left = max_bytes;
        let mut frames = Vec::new();
        for (index, frame) in self.frames.iter().enumerate().skip(skip) {
            let size = frame.bytes().len();
            if size > left && !frames.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            frames.push((self.trimmed + 1 + index as u64, frame.clone()));
        }
        LogPage { extent: self.extent(), frames }
    }
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            last_fence: AtomicU64::default(),
            bells: None,
        }
    }
}

impl MemoryLog {
    pub fn new() -> Self {
        Self::default()
    }

    /// A log that several replicas in this process share: it tells them of each other's appends.
    pub fn shared() -> Self {
        Self { bells: Some(Arc::default()), ..Self::default() }
    }

    /// Takes a copy of a log; called again, what it returns puts the log back to how it was then: what the fail-over to
    /// a server that lacked the newest writes does.
    #[cfg(test)]
    pub fn copy(&self, scenario: ScenarioId) -> impl FnOnce() + '_ {
        let copy = self.shard(scenario).get(&scenario).cloned();
        move || {
            if let Some(copy) = copy {
                self.shard(scenario).insert(scenario, copy);
            }
        }
    }

    /// The shard of a scenario. The last byte of an id is random.
    fn shard(&self, scenario: ScenarioId) -> MutexGuard<'_, Shard> {
        let [.., last] = *scenario.0.as_bytes();
        lock(&self.shards[usize::from(last) % SHARDS])
    }

    /// Runs `act` on the log if `fence` is its current one.
    fn owned<T>(
        &self,
        scenario: ScenarioId,
        fence: Fence,
        act: impl FnOnce(&mut Log) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        match self.shard(scenario).get_mut(&scenario) {
            Some(log) if log.is_owned_by(fence) => act(log),
            Some(_) => Err(LogError::Fenced),
            None => Err(LogError::Gone),
        }
    }
}

/// No code panics while it holds a shard halfway through a change, so a poisoned one is whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl LogStore for MemoryLog {
    async fn claim(
        &self,
        scenario: ScenarioId,
        holder: &str,
        ttl: Duration,
        origin: Origin,
    ) -> Result<Claim, LogError> {
        let now = Instant::now();
        let mut shard = self.shard(scenario);
        let log = shard.entry(scenario).or_insert_with(|| Log::new(origin));
        let held = log.lease.as_ref().and_then(|lease| lease.held_against(holder, now));
        if let Some((holder, expires_in)) = held {
            return Ok(Claim::Held { holder, expires_in });
        }
        let fence = Fence(self.last_fence.fetch_add(1, Ordering::Relaxed) + 1);
        log.lease = Some(Lease::new(fence, holder, now, ttl));
        let (extent, checkpoint) = (log.extent(), log.checkpoint.clone());
        Ok(Claim::Granted(Granted { fence, extent, checkpoint }))
    }

    async fn renew(
        &self,
        leases: &[(ScenarioId, Fence)],
        ttl: Duration,
    ) -> Result<Vec<ScenarioId>, LogError> {
        let now = Instant::now();
        let mut lost = Vec::new();
        for &(scenario, fence) in leases {
            match self.shard(scenario).get_mut(&scenario).and_then(|log| log.lease.as_mut()) {
                Some(lease) if lease.fence == fence => lease.extend(now, ttl),
                _ => lost.push(scenario),
            }
        }
        Ok(lost)
    }

    async fn release(&self, scenario: ScenarioId, fence: Fence) -> Result<(), LogError> {
        let mut orphaned = false;
        if let Some(log) = self.shard(scenario).get_mut(&scenario)
            && log.is_owned_by(fence)
        {
            log.lease = None;
            orphaned = log.open_turn;
        }
        if let Some(bells) = self.bells.as_ref().filter(|_| orphaned) {
            bells.ring(ORPHANS);
        }
        Ok(())
    }

    async fn append(
        &self,
        scenario: ScenarioId,
        fence: Fence,
        batch: Batch,
    ) -> Result<(), LogError> {
        self.owned(scenario, fence, |log| log.append(batch))?;
        if let Some(bells) = &self.bells {
            bells.ring(scenario);
        }
        Ok(())
    }

    async fn read(
        &self,
        scenario: ScenarioId,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<LogPage>, LogError> {
        Ok(self.shard(scenario).get(&scenario).map(|log| log.page(after, max_bytes)))
    }

    fn follow(&self, scenario: ScenarioId) -> Option<News> {
        Some(self.bells.as_ref()?.hang(scenario))
    }

    fn follow_orphans(&self) -> Option<News> {
        Some(self.bells.as_ref()?.hang(ORPHANS))
    }

    async fn list_orphans(&self, limit: usize) -> Result<Vec<ScenarioId>, LogError> {
        let now = Instant::now();
        let mut orphans = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let found = shard.iter().filter(|(_, log)| {
                log.open_turn && !log.lease.as_ref().is_some_and(|lease| lease.is_live(now))
            });
            orphans.extend(found.map(|(scenario, _)| *scenario).take(limit - orphans.len()));
        }
        Ok(orphans)
    }

    async fn trim(&self, scenario: ScenarioId, fence: Fence, up_to: u64) -> Result<(), LogError> {
        self.owned(scenario, fence, |log| log.trim(up_to))
    }

    async fn delete(&self, scenario: ScenarioId) -> Result<(), LogError> {
        let removed = self.shard(scenario).remove(&scenario);
        drop(removed); // its frames, without the shard
        Ok(())
    }
}
