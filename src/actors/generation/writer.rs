//! The one pen of a log: whoever owns the [`LogWriter`] writes, and it moves from the session to its turn and back.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::checkpoint::Checkpoint;
use super::lease::{LeaseGuard, Leases};
use super::tail::{Pen, Tail};
use crate::domain::event::{Event, Frame};
use crate::domain::ids::ScenarioId;
use crate::storage::log::{Batch, Fence, Lease, LogError, LogStore};

/// First and longest wait between tries of an append that the store did not take.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Longest that an append is tried: a turn pauses this long for its log.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that one call of the log may take. An append that took longer may have happened: it is tried again, and
/// its numbers tell.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Someone else owns the log now, or it is not the log any more that this pen belongs to: lost, or rolled back.
    #[error("fenced")]
    Fenced,
    #[error("log unavailable: {0}")]
    Unavailable(String),
}

pub struct LogWriter {
    log: Arc<dyn LogStore>,
    tail: Pen,
    scenario: ScenarioId,
    epoch: Arc<str>,
    fence: Fence,
    head: u64,
    registered: LeaseGuard,
}

impl LogWriter {
    /// Takes the pen that a granted lease gives.
    pub fn new(
        log: Arc<dyn LogStore>,
        tail: &Arc<Tail>,
        leases: &Arc<Leases>,
        scenario: ScenarioId,
        lease: &Lease,
    ) -> Self {
        Self {
            log,
            tail: tail.take_pen(&lease.extent),
            scenario,
            epoch: Arc::clone(&lease.extent.epoch),
            fence: lease.fence,
            head: lease.extent.head,
            registered: leases.register(scenario, lease.fence),
        }
    }

    /// The claim that this pen belongs to.
    pub fn fence(&self) -> Fence {
        self.fence
    }

    pub fn epoch(&self) -> &Arc<str> {
        &self.epoch
    }

    /// `seq` of the newest event.
    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn tail(&self) -> &Arc<Tail> {
        self.tail.tail()
    }

    /// Logs events and then shows them. A new checkpoint becomes valid with them.
    ///
    /// While the log does not answer this waits, up to a minute; nothing is shown meanwhile.
    ///
    /// # Errors
    /// After either error the pen is worthless: claim the lease anew.
    pub async fn append(
        &mut self,
        events: &[Event],
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(), WriteError> {
        let first_seq = self.head + 1;
        let frames: Vec<Frame> = (first_seq..)
            .zip(events)
            .map(|(seq, event)| Frame::encode(self.scenario, &self.epoch, seq, event))
            .collect();
        let batch = Batch {
            first_seq,
            frames: frames.clone(),
            checkpoint: checkpoint.map(Checkpoint::encode),
            open_turn: checkpoint.map(|checkpoint| checkpoint.open.is_some()),
        };
        self.store(batch).await?;
        self.head += frames.len() as u64;
        let open = checkpoint.map(|checkpoint| checkpoint.open.as_ref().map(|open| open.from));
        self.tail.publish(first_seq, frames, open);
        Ok(())
    }

    async fn store(&self, batch: Batch) -> Result<(), WriteError> {
        let mut error = match self.try_store(batch.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let since = Instant::now();
        let mut wait = RETRY_MIN;
        loop {
            match error {
                LogError::Fenced | LogError::Gone | LogError::OutOfSequence { .. } => {
                    return Err(WriteError::Fenced);
                }
                LogError::Unavailable(cause) if since.elapsed() > PATIENCE => {
                    return Err(WriteError::Unavailable(cause));
                }
                LogError::Unavailable(cause) => {
                    tracing::warn!(scenario = %self.scenario, cause, "log did not take an append");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
            error = match self.try_store(batch.clone()).await {
                Ok(()) => return Ok(()),
                // The fence still holds, so it was an earlier try of ours that got through.
                Err(LogError::OutOfSequence { head })
                    if head + 1 == batch.first_seq + batch.frames.len() as u64 =>
                {
                    return Ok(());
                }
                Err(error) => error,
            };
        }
    }

    async fn try_store(&self, batch: Batch) -> Result<(), LogError> {
        in_time(self.log.append(self.scenario, self.fence, batch)).await
    }

    /// Forgets events up to `up_to`; a failure is only logged, it will be tried again with the next turn.
    pub async fn trim(&self, up_to: u64) {
        let trimmed = self.log.trim(self.scenario, self.fence, up_to.min(self.head));
        if let Err(error) = in_time(trimmed).await {
            tracing::warn!(scenario = %self.scenario, %error, "log was not trimmed");
        }
    }

    /// Reads this log from `from` to the head.
    ///
    /// # Errors
    /// [`WriteError::Unavailable`] also if events are missing or unreadable.
    pub async fn read_from(&self, from: u64) -> Result<Vec<Event>, WriteError> {
        read_events(&*self.log, self.scenario, &self.epoch, from, self.head).await
    }

    /// Gives the lease up, so that another replica may go on at once.
    pub async fn release(mut self) {
        self.registered.put_down();
        if let Err(error) = in_time(self.log.release(self.scenario, self.fence)).await {
            tracing::warn!(scenario = %self.scenario, %error, "lease was not released");
        }
    }
}

/// A log that does not answer is as good as away.
pub async fn in_time<T>(call: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
    let mut call = pin!(call);
    // Most logs in this process answer at once: no timer for those.
    if let Poll::Ready(answer) = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
        return answer;
    }
    match timeout(CALL_DEADLINE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(LogError::Unavailable("no answer in time".into())),
    }
}

/// Reads and decodes the events `from..=to` of the log with that epoch.
pub async fn read_events(
    log: &dyn LogStore,
    scenario: ScenarioId,
    epoch: &str,
    from: u64,
    to: u64,
) -> Result<Vec<Event>, WriteError> {
    const PAGE_BYTES: usize = 256 * 1024;
    let broken = |what: String| WriteError::Unavailable(what);
    let mut events = Vec::new();
    let mut next = from;
    while next <= to {
        let page = in_time(log.read(scenario, next - 1, PAGE_BYTES)).await;
        let page = page.map_err(|error| broken(error.to_string()))?;
        let page = page.filter(|page| &*page.extent.epoch == epoch);
        let frames = page.map(|page| page.frames).unwrap_or_default();
        if frames.first().is_none_or(|(seq, _)| *seq != next) {
            return Err(broken(format!("events from {next} on are missing")));
        }
        for (seq, frame) in frames.into_iter().take_while(|(seq, _)| *seq <= to) {
            let addressed = frame.decode().map_err(|error| broken(error.to_string()))?;
            events.push(addressed.event);
            next = seq + 1;
        }
    }
    Ok(events)
}
