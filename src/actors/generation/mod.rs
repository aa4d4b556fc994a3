//! Generation: everything that tells stories and shows them as they are told.
//!
//! [`GenerationHandle`] is what the gateway uses: commands go through a shard to their session, which runs a turn;
//! readers get a [`LogReader`] on the scenario's tail. A turn's way: `session` -> `turn` (provider -> parser) ->
//! `writer` (store first, then `tail`) -> reader.

mod attach;
mod checkpoint;
mod draft;
mod lease;
mod load;
mod session;
mod shard;
mod tail;
#[cfg(test)]
mod tests;
mod text;
mod turn;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::history::HistoryHandle;
use super::status::ServiceStatus;
use super::supervisor::ChildSpec;
use crate::clock::Clock;
use crate::config;
use crate::domain::ids::{ScenarioId, TurnId, UserId};
use crate::domain::scenario::Scenario;
use crate::domain::turn::{Command, Request};
use crate::error::{Code, ServiceError};
use crate::storage::log::LogStore;

pub use attach::{Attached, LogReader, Snapshot};
pub use draft::Draft;
pub use tail::{Taken, Wake};
pub use text::{TextHandle, TextProviders, TextSpec};

use lease::{KeeperArgs, Leases};
use session::{Asked, Stop};
use shard::{ShardMsg, Shards};
use tail::Hub;

/// Longest that a command waits for its turn's first event to be logged.
const COMMAND_DEADLINE: Duration = Duration::from_secs(20);
/// Wait between tries while a shard is being restarted.
const SHARD_RETRY: Duration = Duration::from_millis(50);
const SHARD_TRIES: u32 = 40;
/// The first turn of a scenario is begun once, whoever asks how often.
const BEGIN_KEY: &str = "begin";

/// What sessions and turns need of the world.
pub struct GenerationDeps {
    pub log: Arc<dyn LogStore>,
    pub history: HistoryHandle,
    pub texts: TextProviders,
    pub clock: Clock,
    pub config: config::Sessions,
    /// How long events of finished turns stay replayable.
    pub retention: Duration,
    /// This replica's name as a holder of leases; another one after every start.
    pub replica: String,
    hub: Arc<Hub>,
    leases: Arc<Leases>,
    turns: Arc<Semaphore>,
    sessions: Arc<AtomicUsize>,
}

/// What [`build`] is given.
pub struct Parts {
    pub log: Arc<dyn LogStore>,
    pub history: HistoryHandle,
    pub texts: TextProviders,
    pub clock: Clock,
    pub config: config::Sessions,
    pub retention: Duration,
    pub replica: String,
}

/// The way to live scenarios; cheap to clone.
#[derive(Clone)]
pub struct GenerationHandle {
    deps: Arc<GenerationDeps>,
    shards: Shards,
}

/// The generation service's row, the rows of the session shards and of the lease keeper, and the way to them.
pub fn build(parts: Parts) -> (GenerationHandle, Vec<ChildSpec>, Arc<ServiceStatus>) {
    let Parts { log, history, texts, clock, config, retention, replica } = parts;
    let deps = Arc::new(GenerationDeps {
        log,
        history,
        texts,
        clock,
        retention,
        replica,
        hub: Arc::default(),
        leases: Arc::default(),
        turns: Arc::new(Semaphore::new(config.max_turns)),
        sessions: Arc::default(),
        config,
    });
    let shards = Shards::new(deps.config.shards);
    let pools = deps.texts.iter().map(TextHandle::view).collect();
    let status = ServiceStatus::new("generation", pools);
    let service =
        ChildSpec::supervisor("generation", deps.texts.children()).status(Arc::clone(&status));
    let keeper = lease::child(KeeperArgs {
        log: Arc::clone(&deps.log),
        leases: Arc::clone(&deps.leases),
        shards: shards.clone(),
        ttl: deps.config.lease_ttl,
        every: deps.config.lease_renew,
        turns: Arc::clone(&deps.turns),
    });
    let mut rows = vec![service];
    rows.extend(shards.children(&deps));
    rows.push(keeper);
    (GenerationHandle { deps, shards }, rows, status)
}

impl GenerationHandle {
    /// Stores a new scenario and begins its first turn. Again with the same id and owner is the same scenario.
    ///
    /// # Errors
    /// `service_unavailable` before anything is stored when no turn can be taken on; `conflict` if the id is taken.
    pub async fn create(&self, scenario: Scenario, turn: TurnId) -> Result<TurnId, ServiceError> {
        let permit = self.admit()?;
        let (id, owner) = (scenario.id, scenario.owner);
        match self.deps.history.create(scenario).await {
            Ok(()) => {}
            Err(error) if error.code == Code::Conflict => {
                let stored = self.deps.history.find(id).await?;
                if stored.is_none_or(|stored| stored.owner != owner) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        let key = Some(BEGIN_KEY.to_owned());
        self.submit(id, Request { command: Command::Begin, key, turn }, permit).await
    }

    /// Has the reader's command start a turn; answers once its first event is in the log.
    ///
    /// # Errors
    /// `scenario_not_found`, `scene_not_found`, `stale_scene`, `turn_in_progress`, `idempotency_conflict`,
    /// `invalid_request`; `service_unavailable` when the replica is full, drains or its stores are away.
    pub async fn command(
        &self,
        user: UserId,
        scenario: ScenarioId,
        request: Request,
    ) -> Result<TurnId, ServiceError> {
        let permit = self.admit()?;
        self.deps.history.find_owned(scenario, user).await?;
        self.submit(scenario, request, permit).await
    }

    /// Ends a running turn and keeps its text.
    ///
    /// # Errors
    /// `turn_not_found` if it is not running.
    pub async fn stop(
        &self,
        user: UserId,
        scenario: ScenarioId,
        turn: TurnId,
    ) -> Result<(), ServiceError> {
        self.deps.history.find_owned(scenario, user).await?;
        let (reply, answer) = oneshot::channel();
        if self.shards.send(scenario, ShardMsg::Stop(scenario, Stop { turn, reply })).is_err() {
            return Err(ServiceError::unavailable("generation", SHARD_RETRY));
        }
        match timeout(COMMAND_DEADLINE, answer).await {
            Ok(Ok(answer)) => answer,
            // The session died; whoever takes its turn up can be told to stop it.
            Ok(Err(_)) => Err(ServiceError::unavailable("generation", Duration::from_secs(1))),
            Err(_) => Err(ServiceError::timeout("generation")),
        }
    }

    /// Ends whatever lives of a deleted scenario.
    pub async fn forget(&self, scenario: ScenarioId) -> Result<(), ServiceError> {
        let (left, done) = oneshot::channel();
        if self.shards.send(scenario, ShardMsg::Leave(scenario, left)).is_ok() {
            let _ = timeout(COMMAND_DEADLINE, done).await;
        }
        self.deps.log.delete(scenario).await.map_err(|error| {
            tracing::warn!(%scenario, %error, "log was not deleted");
            ServiceError::unavailable("event log", Duration::from_secs(1))
        })
    }

    pub fn texts(&self) -> &TextProviders {
        &self.deps.texts
    }

    /// Turns running on this replica.
    pub fn running_turns(&self) -> usize {
        self.deps.config.max_turns.saturating_sub(self.deps.turns.available_permits())
    }

    /// Sessions alive on this replica.
    pub fn live_sessions(&self) -> usize {
        self.deps.sessions.load(Ordering::Relaxed)
    }

    /// Leases held by this replica.
    pub fn held_leases(&self) -> usize {
        self.deps.leases.count()
    }

    /// Takes no new turn from now on.
    pub fn refuse_turns(&self) {
        self.deps.turns.close();
    }

    /// Ends every session at its log's head, so that another replica goes on at once. Takes nothing new from now on.
    pub async fn hand_over(&self) {
        self.refuse_turns();
        self.shards.drain().await;
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, ServiceError> {
        let storyteller = self.deps.texts.iter().last();
        if storyteller.is_none_or(|text| text.circuit().is_none()) {
            return Err(ServiceError::unavailable("generation", Duration::from_secs(5)));
        }
        let permit = Arc::clone(&self.deps.turns).try_acquire_owned();
        permit.map_err(|_| ServiceError::unavailable("generation", Duration::from_secs(1)))
    }

    async fn submit(
        &self,
        scenario: ScenarioId,
        mut request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Result<TurnId, ServiceError> {
        // With a key a second try can do no harm: it gets the first one's answer.
        request.key.get_or_insert_with(|| request.turn.to_string());
        let mut permit = Some(permit);
        for _ in 0..SHARD_TRIES {
            let permit = match permit.take() {
                Some(permit) => permit,
                None => self.admit()?,
            };
            let (accepted, answer) = oneshot::channel();
            let span = tracing::Span::current();
            let asked = Box::new(Asked { request: request.clone(), accepted, permit, span });
            if self.shards.send(scenario, ShardMsg::Command(scenario, asked)).is_ok() {
                match timeout(COMMAND_DEADLINE, answer).await {
                    Ok(Ok(answer)) => return answer,
                    // Session or turn died before it could answer.
                    Ok(Err(_)) => {}
                    Err(_) => return Err(ServiceError::timeout("generation")),
                }
            }
            tokio::time::sleep(SHARD_RETRY).await;
        }
        Err(ServiceError::unavailable("generation", Duration::from_secs(1)))
    }
}
