//! Generation: everything that tells stories and shows them as they are told.
//!
//! [`GenerationHandle`] is what the gateway uses: commands go through a shard to their session, which runs a turn;
//! readers get a [`LogReader`] on the scenario's tail. A turn's way: `session` -> `turn` (provider -> parser) ->
//! `writer` (store first, then `tail`) -> reader.
//!
//! A session lives on one replica at a time, and its readers anywhere: where they are, `follow` reads the log for them,
//! and `peers` brings their commands to the session's owner.

mod asking;
mod attach;
mod carry;
mod chapters;
mod checkpoint;
mod draft;
mod follow;
mod hedge;
mod lease;
mod load;
mod material;
mod peers;
mod session;
mod shard;
mod speculate;
mod tail;
#[cfg(test)]
mod tests;
mod text;
mod turn;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::budget::{self, BudgetHandle, UserUsage};
use super::cache::CacheHandle;
use super::history::HistoryHandle;
use super::moderation::ModerationHandle;
use super::status::ServiceStatus;
use super::supervisor::ChildSpec;
use crate::clock::Clock;
use crate::config;
use crate::domain::ids::{ScenarioId, TurnId, UserId};
use crate::domain::scenario::Scenario;
use crate::domain::turn::{Command, Request};
use crate::error::{Code, ServiceError};
use crate::providers::text::{Brief, StoryRequest};
use crate::storage::bus::ReplicaBus;
use crate::storage::log::LogStore;

pub use attach::{Attached, LogReader, Snapshot};
pub use draft::Draft;
pub use tail::{Taken, Wake};
pub use text::{Meter, TextHandle, TextProviders, TextSpec};

use chapters::Chapters;
use follow::Following;
use lease::{KeeperArgs, Leases};
use peers::{Ask, Peers};
use shard::Shards;
use tail::Hub;

/// The first turn of a scenario is begun once, whoever asks how often.
const BEGIN_KEY: &str = "begin";

/// What was done, about which turn; or why it was not.
type Answered = Result<Option<TurnId>, ServiceError>;

/// What sessions and turns need of the world.
pub struct GenerationDeps {
    pub log: Arc<dyn LogStore>,
    pub history: HistoryHandle,
    pub texts: TextProviders,
    pub budget: BudgetHandle,
    chapters: Arc<Chapters>,
    pub moderation: ModerationHandle,
    pub clock: Clock,
    pub config: config::Sessions,
    /// How long events of finished turns stay replayable.
    pub retention: Duration,
    /// This replica's name as a holder of leases; another one after every start.
    pub replica: String,
    hub: Arc<Hub>,
    leases: Arc<Leases>,
    turns: Arc<Semaphore>,
    /// Places for calls that are made before anybody has asked for them.
    ahead: Arc<Semaphore>,
    sessions: Arc<AtomicUsize>,
}

/// What [`build`] is given.
pub struct Parts {
    pub log: Arc<dyn LogStore>,
    /// The way to other replicas that share the log; none where there cannot be any.
    pub bus: Option<Arc<dyn ReplicaBus>>,
    pub history: HistoryHandle,
    pub texts: TextProviders,
    pub budget: budget::Parts,
    pub cache: CacheHandle,
    pub moderation: ModerationHandle,
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
    peers: Option<Arc<Peers>>,
}

/// The generation service's row, the rows of the session shards, of the lease keeper and of the listener to other
/// replicas, and the way to them.
pub fn build(parts: Parts) -> (GenerationHandle, Vec<ChildSpec>, Arc<ServiceStatus>) {
    let Parts {
        log,
        bus,
        history,
        texts,
        budget,
        cache,
        moderation,
        clock,
        config,
        retention,
        replica,
    } = parts;
    let (budget, budget_row, budget_view) = budget::build(budget, clock.clone());
    let shards = Shards::new(config.shards);
    let peers = bus.map(|bus| Arc::new(Peers::new(bus, replica.clone())));
    let following = Following::new(Arc::clone(&log), shards.clone());
    let deps = Arc::new(GenerationDeps {
        log,
        history,
        texts,
        budget,
        chapters: Arc::new(Chapters::new(cache)),
        moderation,
        clock,
        retention,
        replica,
        hub: Arc::new(Hub::new(following)),
        leases: Arc::default(),
        turns: Arc::new(Semaphore::new(config.max_turns)),
        ahead: Arc::new(Semaphore::new(config.speculate_streams.min(Semaphore::MAX_PERMITS))),
        sessions: Arc::default(),
        config,
    });
    let pools = deps.texts.iter().map(TextHandle::view).chain([budget_view]);
    let pools = pools.chain(deps.moderation.view()).collect();
    let status = ServiceStatus::new("generation", pools);
    let mut children = deps.texts.children();
    children.push(budget_row);
    children.extend(deps.moderation.child());
    let service = ChildSpec::supervisor("generation", children).status(Arc::clone(&status));
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
    let handle = GenerationHandle { deps, shards, peers };
    if let Some(peers) = &handle.peers {
        rows.push(peers::child(Arc::clone(peers), handle.clone()));
    }
    (handle, rows, status)
}

impl GenerationDeps {
    /// Whether a new scenario's first turn can be paid for.
    ///
    /// # Errors
    /// `budget_exhausted`; `service_unavailable`, `timeout`.
    async fn check_budget(&self, scenario: &Scenario) -> Result<(), ServiceError> {
        let first = self.texts.candidates(scenario.provider.as_deref()).into_iter().next();
        let Some(meter) = first.and_then(|text| text.meter) else { return Ok(()) };
        let tokens = meter.input_tokens(&StoryRequest::first(Brief::of(scenario)));
        self.budget.check(scenario.id, scenario.owner, meter.most(tokens)).await
    }
}

impl GenerationHandle {
    /// What a user's turns have cost on each of the last `days` days.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn usage(&self, user: UserId, days: usize) -> Result<UserUsage, ServiceError> {
        self.deps.budget.usage(user, days).await
    }

    /// Settles model calls that nobody has settled; returns how many. For a timer.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn sweep_budget(&self) -> Result<u64, ServiceError> {
        self.deps.budget.sweep().await
    }

    /// Stores a new scenario and begins its first turn. Again with the same id and owner is the same scenario.
    ///
    /// # Errors
    /// `service_unavailable` before anything is stored when no turn can be taken on; `content_blocked` for the reader's words;
    /// `conflict` if the id is taken.
    pub async fn create(&self, scenario: Scenario, turn: TurnId) -> Result<TurnId, ServiceError> {
        let permit = self.admit()?;
        let (id, owner) = (scenario.id, scenario.owner);
        self.check_words(&scenario).await?;
        // Before there is a scenario that nobody can tell.
        self.deps.check_budget(&scenario).await?;
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

    /// Whether a new scenario's words may be taken in. What was begun with them before stays begun.
    async fn check_words(&self, scenario: &Scenario) -> Result<(), ServiceError> {
        let Scenario { id, owner, prompt, genre, tone, .. } = scenario;
        let words = [("prompt", Some(prompt)), ("genre", genre.as_ref()), ("tone", tone.as_ref())];
        for (field, text) in words {
            let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
            let Err(error) = self.deps.moderation.check_input(field, text).await else { continue };
            let known = self.deps.history.find(*id).await?;
            if known.is_none_or(|known| known.owner != *owner) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Has the reader's command start a turn; answers once its first event is in the log.
    ///
    /// # Errors
    /// `scenario_not_found`, `scene_not_found`, `stale_scene`, `turn_in_progress`, `idempotency_conflict`,
    /// `invalid_request`, `content_blocked`; `service_unavailable` when the replica is full, drains or its stores are away.
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
        self.ask(scenario, Ask::Stop { turn }, None).await?;
        Ok(())
    }

    /// What model calls are paid from.
    pub fn budget(&self) -> &BudgetHandle {
        &self.deps.budget
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

    async fn submit(
        &self,
        scenario: ScenarioId,
        mut request: Request,
        permit: OwnedSemaphorePermit,
    ) -> Result<TurnId, ServiceError> {
        // With a key a second try can do no harm: it gets the first one's answer.
        request.key.get_or_insert_with(|| request.turn.to_string());
        let turn = self.ask(scenario, Ask::command(request), Some(permit)).await?;
        turn.ok_or_else(ServiceError::internal)
    }
}
