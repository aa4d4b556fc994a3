//! How something is asked of a session, wherever it lives: of the one here, or of its owner on another replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::peers::Ask;
use super::session::{Asked, Elsewhere, Refused, Stop};
use super::shard::ShardMsg;
use super::writer::in_time;
use super::{Answered, GenerationHandle};
use crate::domain::ids::ScenarioId;
use crate::domain::turn::Request;
use crate::error::ServiceError;
use crate::storage::log::{Claim, Origin};

/// Longest that a command waits for its turn's first event to be logged.
const DEADLINE: Duration = Duration::from_secs(20);
/// Longest of it that is spent on an owner that cannot be reached: its lease runs out before.
const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(12);
/// Pause before it is looked again who the owner is: a lease may be given up long before it runs out.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Wait between tries while a shard is being restarted.
const SHARD_RETRY: Duration = Duration::from_millis(50);
const SHARD_TRIES: u32 = 40;

/// What came of asking the session here.
enum Heard {
    Answer(Answered),
    Elsewhere(Elsewhere),
    /// Session, shard or turn died before it could answer.
    Nothing,
}

impl From<Refused> for Heard {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Error(error) => Heard::Answer(Err(error)),
            Refused::Elsewhere(elsewhere) => Heard::Elsewhere(elsewhere),
        }
    }
}

impl GenerationHandle {
    /// Asks until there is an answer: the session here, and when it lives elsewhere, its owner.
    ///
    /// What is asked must be harmless to ask again. `permit` is the place of a command's turn, should it run here.
    pub(super) async fn ask(
        &self,
        scenario: ScenarioId,
        ask: Ask,
        mut permit: Option<OwnedSemaphorePermit>,
    ) -> Answered {
        let deadline = Instant::now() + DEADLINE;
        let mut elsewhere_since = None;
        let mut silences = 0;
        loop {
            let heard = self.ask_here(scenario, &ask, permit.take());
            let wait = match timeout_at(deadline, heard).await {
                Err(_) => return Err(ServiceError::timeout("generation")),
                Ok(Heard::Answer(answer)) => return answer,
                Ok(Heard::Nothing) => {
                    silences += 1;
                    if silences >= SHARD_TRIES {
                        return Err(ServiceError::unavailable(
                            "generation",
                            Duration::from_secs(1),
                        ));
                    }
                    SHARD_RETRY
                }
                Ok(Heard::Elsewhere(Elsewhere { holder, expires_in })) => {
                    let since: &mut Instant = elsewhere_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > ELSEWHERE_PATIENCE {
                        return Err(ServiceError::unavailable("this scenario", expires_in));
                    }
                    if let Some(peers) = &self.peers
                        && let Some(answer) = peers.forward(&holder, scenario, &ask).await
                    {
                        return answer;
                    }
                    expires_in.clamp(SHARD_RETRY, LOOK_AGAIN)
                }
            };
            sleep(wait).await;
        }
    }

    /// Does what another replica asks, if the session lives here or nowhere; `None` if it does not.
    pub(super) async fn serve(&self, scenario: ScenarioId, ask: &Ask) -> Option<Answered> {
        if let Ask::Forget = ask {
            self.leave(scenario).await;
            return Some(Ok(None));
        }
        let heard = match timeout(DEADLINE, self.ask_here(scenario, ask, None)).await {
            Ok(heard) if !self.is_draining() => heard,
            // What is handed over here is about to be somewhere else.
            _ => return None,
        };
        match heard {
            Heard::Answer(answer) => Some(answer),
            Heard::Elsewhere(_) | Heard::Nothing => None,
        }
    }

    async fn ask_here(
        &self,
        scenario: ScenarioId,
        ask: &Ask,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Heard {
        match ask {
            Ask::Command { command, key, turn } => {
                let permit = match permit.map_or_else(|| self.admit(), Ok) {
                    Ok(permit) => permit,
                    Err(error) => return Heard::Answer(Err(error)),
                };
                let request = Request { command: command.clone(), key: key.clone(), turn: *turn };
                let (accepted, answer) = oneshot::channel();
                let span = tracing::Span::current();
                let asked = Box::new(Asked { request, accepted, permit, span });
                if self.shards.send(scenario, ShardMsg::Command(scenario, asked)).is_err() {
                    return Heard::Nothing;
                }
                match answer.await {
                    Ok(Ok(turn)) => Heard::Answer(Ok(Some(turn))),
                    Ok(Err(refused)) => refused.into(),
                    Err(_) => Heard::Nothing,
                }
            }
            Ask::Stop { turn } => {
                let (reply, answer) = oneshot::channel();
                let stop = Stop { turn: *turn, reply };
                if self.shards.send(scenario, ShardMsg::Stop(scenario, stop)).is_err() {
                    return Heard::Nothing;
                }
                match answer.await {
                    Ok(Ok(())) => Heard::Answer(Ok(Some(*turn))),
                    Ok(Err(refused)) => refused.into(),
                    Err(_) => Heard::Nothing,
                }
            }
            Ask::Forget => {
                self.leave(scenario).await;
                Heard::Answer(Ok(None))
            }
        }
    }

    /// Ends whatever lives of a deleted scenario, here and on the replica that owns its session.
    ///
    /// # Errors
    /// `service_unavailable` if its log could not be deleted.
    pub async fn forget(&self, scenario: ScenarioId) -> Result<(), ServiceError> {
        self.leave(scenario).await;
        let (log, deps) = (&self.deps.log, &self.deps);
        if let Some(peers) = &self.peers {
            // A claim tells whose it is, and that nobody writes any more if it is nobody's.
            let claim = log.claim(scenario, &deps.replica, deps.config.lease_ttl, Origin::New);
            if let Ok(Claim::Held { holder, .. }) = in_time(claim).await {
                // Without the log nothing can be written any more, whether the owner has heard of it or not.
                let _ = peers.forward(&holder, scenario, &Ask::Forget).await;
            }
        }
        in_time(log.delete(scenario)).await.map_err(|error| {
            tracing::warn!(%scenario, %error, "log was not deleted");
            ServiceError::unavailable("event log", Duration::from_secs(1))
        })
    }

    async fn leave(&self, scenario: ScenarioId) {
        let (left, done) = oneshot::channel();
        if self.shards.send(scenario, ShardMsg::Leave(scenario, left)).is_ok() {
            let _ = timeout(DEADLINE, done).await;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.deps.turns.is_closed()
    }

    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let storyteller = self.deps.texts.iter().last();
        if storyteller.is_none_or(|text| text.circuit().is_none()) {
            return Err(ServiceError::unavailable("generation", Duration::from_secs(5)));
        }
        let permit = Arc::clone(&self.deps.turns).try_acquire_owned();
        permit.map_err(|_| ServiceError::unavailable("generation", Duration::from_secs(1)))
    }
}
