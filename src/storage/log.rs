//! The event logs of all scenarios, and the leases that say who may write one.
//!
//! A log is written by one owner at a time: whoever holds the scenario's lease. Every claim raises the lease's
//! **fence**; a write that carries an older fence is refused, so a paused or cut-off owner can never add an event.
//! The owner numbers its events (it knows the head) and the store verifies the numbers, so that a frame is encoded
//! once with its final `seq`.
//!
//! Beside the events a log keeps one opaque **checkpoint** of its session (the open turn and the answers given to
//! recent commands), replaced atomically with the events it belongs to.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use crate::domain::event::Frame;
use crate::domain::ids::ScenarioId;

/// Raised by every claim of a scenario's lease; never falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fence(pub u64);

/// Where a log begins and ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Changes only if the log was lost.
    pub epoch: Arc<str>,
    /// The oldest `seq` still held; `head + 1` when none is.
    pub first: u64,
    /// The newest `seq`; 0 before the first event.
    pub head: u64,
}

impl Extent {
    /// Whether everything after `after` up to the head is still held.
    pub fn holds_after(&self, after: u64) -> bool {
        after.saturating_add(1) >= self.first && after <= self.head
    }
}

/// A granted lease.
#[derive(Debug, Clone)]
pub struct Lease {
    pub fence: Fence,
    pub extent: Extent,
    pub checkpoint: Option<Bytes>,
}

#[derive(Debug, Clone)]
pub enum Claim {
    Granted(Lease),
    /// Someone else holds it for about this long.
    Held {
        holder: String,
        expires_in: Duration,
    },
    /// There is no log, and the store itself has come back without its data a moment ago: for about so long only
    /// [`Origin::Carried`] begins one.
    Unsettled {
        wait: Duration,
    },
}

/// So long after a store came back without its data only who remembers a log begins it anew: time for owners to
/// reconnect and to find out. Whoever else asks for a lost log waits until then.
pub const SETTLING: Duration = Duration::from_secs(3);

/// How a log that does not exist yet is begun by a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A new scenario: the log starts empty at head 0 and will hold all of it.
    New,
    /// The scenario has scenes but its log is lost: the log starts at head 1 with nothing held before, so that
    /// no replay from the start can look whole.
    Lost,
    /// As [`Origin::Lost`], by a claimant that remembers what was in it.
    Carried,
}

impl Origin {
    /// The head that a log begins with.
    pub const fn head(self) -> u64 {
        match self {
            Origin::New => 0,
            Origin::Lost | Origin::Carried => 1,
        }
    }
}

/// What one append adds, all or nothing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// `seq` of the first frame; must be the head + 1.
    pub first_seq: u64,
    pub frames: Vec<Frame>,
    /// The new checkpoint; `None` leaves the stored one.
    pub checkpoint: Option<Bytes>,
    /// Whether a turn is open from now on; `None` leaves it. Open turns are what [`LogStore::list_orphans`] finds.
    pub open_turn: Option<bool>,
}

/// A part of a log.
#[derive(Debug, Clone)]
pub struct LogPage {
    pub extent: Extent,
    /// Consecutive, starting at the `seq` asked for (`after + 1`), or at `extent.first` if that is no longer held.
    pub frames: Vec<(u64, Frame)>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A newer lease exists: the caller no longer owns the log and must stop.
    #[error("fenced: the lease was claimed by someone else")]
    Fenced,
    /// There is no such log (any more): it was lost, or deleted with its scenario. A store that looks at leases only
    /// says `Fenced` instead.
    #[error("the log is gone")]
    Gone,
    /// The batch does not continue the log; the log's head is given.
    #[error("out of sequence: the head is {head}")]
    OutOfSequence { head: u64 },
    /// The store cannot be reached, is full or broke. The append may or may not have happened.
    #[error("log unavailable: {0}")]
    Unavailable(String),
}

/// Tells that there may be something new in a log, for as long as it is held.
pub struct News {
    bell: Arc<Notify>,
    /// Ends the subscription when it is dropped.
    _subscription: Box<dyn Send + Sync>,
}

impl News {
    /// The store rings `bell` (with [`Notify::notify_one`]) until `subscription` is dropped.
    pub fn new(bell: Arc<Notify>, subscription: impl Send + Sync + 'static) -> Self {
        Self { bell, _subscription: Box::new(subscription) }
    }

    /// Waits for news; however many came meanwhile, they are told once.
    pub async fn wait(&self) {
        self.bell.notified().await;
    }
}

/// The logs. All times are the store's own: no replica's clock matters.
#[async_trait]
pub trait LogStore: Send + Sync + 'static {
    /// Claims the scenario's lease for `holder`, for `ttl` from now, creating the log if there is none.
    ///
    /// Granted if nobody holds it, if it has run out, or if `holder` itself holds it (with a new fence). A store that
    /// other replicas use, and that has lost its logs, leaves the first word to those who remember them.
    async fn claim(
        &self,
        scenario: ScenarioId,
        holder: &str,
        ttl: Duration,
        origin: Origin,
    ) -> Result<Claim, LogError>;

    /// Extends each lease whose fence is still current to `ttl` from now; returns those that are not.
    async fn renew(
        &self,
        leases: &[(ScenarioId, Fence)],
        ttl: Duration,
    ) -> Result<Vec<ScenarioId>, LogError>;

    /// Gives the lease up at once, and with it the right to append; nothing happens if the fence is no longer current.
    async fn release(&self, scenario: ScenarioId, fence: Fence) -> Result<(), LogError>;

    /// Appends a batch. When this returns `Ok` the events survive the death of the process.
    ///
    /// A lease that has run out still counts until someone else claims it, and an append extends nothing.
    ///
    /// # Errors
    /// [`LogError::Gone`], [`LogError::Fenced`] or [`LogError::OutOfSequence`] with nothing written.
    async fn append(
        &self,
        scenario: ScenarioId,
        fence: Fence,
        batch: Batch,
    ) -> Result<(), LogError>;

    /// Reads up to about `max_bytes` of frames (at least one, if there is one) with `seq` > `after`.
    /// `Ok(None)`: there is no such log.
    async fn read(
        &self,
        scenario: ScenarioId,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<LogPage>, LogError>;

    /// News of what other replicas append to this log; `None` from a store that only this process can write.
    ///
    /// The store may tell of news where there are none, and tells so whenever it may have missed some (it was
    /// reconnected, say); it never keeps news to itself for longer than about a second.
    fn follow(&self, scenario: ScenarioId) -> Option<News>;

    /// News of leases that were given up with a turn open, under the terms of [`LogStore::follow`]. Owners that die give
    /// nothing up: look at [`LogStore::list_orphans`] now and then all the same.
    fn follow_orphans(&self) -> Option<News>;

    /// Up to `limit` scenarios with an open turn whose lease nobody holds.
    async fn list_orphans(&self, limit: usize) -> Result<Vec<ScenarioId>, LogError>;

    /// Forgets events up to and including `up_to`, which must not exceed the head.
    ///
    /// # Errors
    /// [`LogError::Gone`] or [`LogError::Fenced`], or [`LogError::OutOfSequence`] if it does.
    async fn trim(&self, scenario: ScenarioId, fence: Fence, up_to: u64) -> Result<(), LogError>;

    /// Forgets the log of a deleted scenario, whoever owns it.
    async fn delete(&self, scenario: ScenarioId) -> Result<(), LogError>;
}
