//! How a reader comes to a scenario's events: exactly from where it was, or with a snapshot.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::sleep;

use super::GenerationHandle;
use super::draft::Draft;
use super::load::{SETTLING_LOOK, SETTLING_WAITS};
use super::tail::{Position, Subscription, Tail, Taken, Wake};
use super::writer::{WriteError, in_time, read_events};
use crate::domain::event::{Event, Frame};
use crate::domain::ids::{ScenarioId, UserId};
use crate::domain::scenario::{Scenario, Scene};
use crate::error::ServiceError;
use crate::storage::log::{Claim, Extent, LogError, LogStore, Origin};

/// Bytes read at once from the store for a reader that is far behind.
const PAGE_BYTES: usize = 64 * 1024;
/// Looks at a log that is not the one that it was a moment ago.
const LOOKS: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Events that are read first in the search for the open turn.
const LOOK_BACK: u64 = 64;

pub struct Attached {
    pub reader: LogReader,
    /// The newest `seq` when the reader attached.
    pub head: u64,
    /// Present if the reader's position could not be taken up: it starts from here.
    pub snapshot: Option<Snapshot>,
}

/// A scenario as it stood at `seq`.
#[derive(Debug)]
pub struct Snapshot {
    pub seq: u64,
    pub scenes: Vec<Scene>,
    pub open_turn: Option<Draft>,
}

/// A cursor on a log.
pub struct LogReader {
    scenario: ScenarioId,
    epoch: Arc<str>,
    /// `seq` of the last event handed out.
    cursor: u64,
    subscription: Subscription,
    log: Arc<dyn LogStore>,
}

impl LogReader {
    pub fn scenario(&self) -> ScenarioId {
        self.scenario
    }

    pub fn epoch(&self) -> &Arc<str> {
        &self.epoch
    }

    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Takes what is in memory after the cursor, about `max_bytes` at most, and moves the cursor.
    pub fn take(&mut self, max_bytes: usize, out: &mut Vec<(u64, Frame)>) -> Taken {
        let taken = self.subscription.tail().take(&self.epoch, self.cursor, max_bytes, out);
        if let (Taken::Frames, Some((seq, _))) = (&taken, out.last()) {
            self.cursor = *seq;
        }
        taken
    }

    /// Reads what is no longer in memory ([`Taken::Older`]); give the result to [`LogReader::advance`].
    pub fn read_older(&self) -> BoxFuture<'static, Result<Vec<(u64, Frame)>, ServiceError>> {
        let (log, scenario, cursor) = (Arc::clone(&self.log), self.scenario, self.cursor);
        let (epoch, tail) = (Arc::clone(&self.epoch), Arc::clone(self.subscription.tail()));
        Box::pin(async move {
            let page =
                in_time(log.read(scenario, cursor, PAGE_BYTES)).await.map_err(unavailable)?;
            // Another log's events follow no cursor of this one.
            let page = page.filter(|page| page.extent.epoch == epoch);
            let mut frames = page.map(|page| page.frames).unwrap_or_default();
            // The store may be ahead of the tail, in which a cursor beyond its head would mean nothing.
            let head = tail.position().map_or(0, |position| position.head);
            frames.retain(|(seq, _)| *seq <= head);
            Ok(frames)
        })
    }

    /// Moves the cursor over frames read from the store. `false`: they do not follow it, the log is not held any more.
    pub fn advance(&mut self, frames: &[(u64, Frame)]) -> bool {
        match (frames.first(), frames.last()) {
            (Some((first, _)), Some((last, _))) if *first == self.cursor + 1 => {
                self.cursor = *last;
                true
            }
            _ => false,
        }
    }
}

impl GenerationHandle {
    /// Attaches a reader that has seen everything up to `after` of the log with that `epoch`. `wake` is notified
    /// whenever there is something to take.
    ///
    /// # Errors
    /// `scenario_not_found`; `service_unavailable` while log or history is away.
    pub async fn attach(
        &self,
        user: UserId,
        scenario: ScenarioId,
        epoch: Option<&str>,
        after: u64,
        wake: &Arc<Wake>,
    ) -> Result<Attached, ServiceError> {
        let record = self.deps.history.find_owned(scenario, user).await?;
        let tail = self.deps.hub.tail(scenario);
        // Before the log is looked at, so that nothing can slip between.
        let subscription = tail.subscribe(wake);
        let (extent, position) = self.look(&record, &tail).await?;
        let known = match epoch.filter(|epoch| !epoch.is_empty()) {
            Some(epoch) => epoch == &*extent.epoch,
            None => after == 0,
        };
        let held = Extent { head: position.head, ..extent.clone() };
        let recovered = known && held.holds_after(after);
        let (cursor, snapshot) = match recovered {
            true => (after, None),
            false => {
                let snapshot = self.snapshot(scenario, &extent, &position).await?;
                (snapshot.seq, Some(snapshot))
            }
        };
        let reader = LogReader {
            scenario,
            epoch: Arc::clone(&position.epoch),
            cursor,
            subscription,
            log: Arc::clone(&self.deps.log),
        };
        Ok(Attached { reader, head: position.head, snapshot })
    }

    /// Where a scenario's log stands.
    pub async fn position(&self, scenario: &Scenario) -> Result<Extent, ServiceError> {
        self.extent(scenario).await
    }

    /// Where the log stands in the store, and in the tail, which knows as much then.
    async fn look(
        &self,
        record: &Scenario,
        tail: &Tail,
    ) -> Result<(Extent, Position), ServiceError> {
        for _ in 0..LOOKS {
            let before = tail.position().map(|position| position.epoch);
            let extent = self.extent(record).await?;
            if tail.learn(before.as_deref(), &extent)
                && let Some(position) = tail.position()
                && position.epoch == extent.epoch
            {
                return Ok((extent, position));
            }
            // The log is being lost, or begun anew.
            sleep(LOOK_AGAIN).await;
        }
        Err(ServiceError::unavailable("event log", Duration::from_secs(1)))
    }

    async fn extent(&self, scenario: &Scenario) -> Result<Extent, ServiceError> {
        let log = &self.deps.log;
        let (mut looks, mut waits) = (0, 0);
        while looks < LOOKS && waits < SETTLING_WAITS {
            let page = in_time(log.read(scenario.id, i64::MAX as u64, 0)).await;
            if let Some(page) = page.map_err(unavailable)? {
                return Ok(page.extent);
            }
            // The log is lost: begin it, so that it has an epoch. Who has the scenario's id has seen its log begun.
            let (ttl, replica) = (self.deps.config.lease_ttl, &self.deps.replica);
            let claimed = in_time(log.claim(scenario.id, replica, ttl, Origin::Lost)).await;
            match claimed.map_err(unavailable)? {
                Claim::Granted(lease) => {
                    let released = in_time(log.release(scenario.id, lease.fence)).await;
                    released.map_err(unavailable)?;
                    return Ok(lease.extent);
                }
                // Someone else was first.
                Claim::Held { .. } => looks += 1,
                Claim::Unsettled { wait } => {
                    waits += 1;
                    sleep(wait.min(SETTLING_LOOK)).await;
                }
            }
        }
        Err(ServiceError::unavailable("event log", Duration::from_secs(1)))
    }

    async fn snapshot(
        &self,
        scenario: ScenarioId,
        extent: &Extent,
        position: &Position,
    ) -> Result<Snapshot, ServiceError> {
        let seq = position.head;
        let open_turn = match position.open_from {
            Some(None) => None,
            Some(Some(from)) => Draft::fold(&self.events(scenario, extent, from, seq).await?),
            // No session has told yet: the log itself knows.
            None => self.find_open_turn(scenario, extent, seq).await?,
        };
        // Read after the position: whatever was done by then is stored. A scene that is still being told in this
        // snapshot comes through its events.
        let mut scenes = self.deps.history.list_scenes(scenario).await?;
        if let Some(draft) = &open_turn {
            scenes.retain(|scene| scene.id != draft.scene);
        }
        Ok(Snapshot { seq, scenes, open_turn })
    }

    /// Looks back from `seq`, ever further, until a turn begins or ends.
    async fn find_open_turn(
        &self,
        scenario: ScenarioId,
        extent: &Extent,
        seq: u64,
    ) -> Result<Option<Draft>, ServiceError> {
        if extent.first > seq {
            return Ok(None);
        }
        let mut span = LOOK_BACK;
        loop {
            let from = extent.first.max(seq.saturating_sub(span - 1));
            let events = self.events(scenario, extent, from, seq).await?;
            if from == extent.first || events.iter().any(Event::bounds_turn) {
                return Ok(Draft::fold(&events));
            }
            span *= 4;
        }
    }

    async fn events(
        &self,
        scenario: ScenarioId,
        extent: &Extent,
        from: u64,
        to: u64,
    ) -> Result<Vec<Event>, ServiceError> {
        let events = read_events(&*self.deps.log, scenario, &extent.epoch, from, to).await;
        events.map_err(|error| match error {
            WriteError::Fenced => ServiceError::internal(),
            WriteError::Unavailable(cause) => unavailable(LogError::Unavailable(cause)),
        })
    }
}

fn unavailable(error: LogError) -> ServiceError {
    tracing::warn!(%error, "log is not available");
    ServiceError::unavailable("event log", Duration::from_secs(1))
}
