//! Session shards: supervisors that the sessions are spread over, and the way to them.
//!
//! A shard starts a session when it is first spoken to and forgets it when it ends. Sessions are temporary: what one
//! knew is in the log, so a shard that dies takes no more than the sockets' patience.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

use super::GenerationDeps;
use super::session::{Asked, Session, SessionArgs, SessionMsg, Stop};
use crate::actors::supervisor::ChildSpec;
use crate::domain::ids::ScenarioId;
use crate::storage::log::Fence;

pub enum ShardMsg {
    Command(ScenarioId, Box<Asked>),
    Stop(ScenarioId, Stop),
    Resume(ScenarioId),
    LeaseLost(ScenarioId, Fence),
    /// The session leaves its scenario alone; told when it has.
    Leave(ScenarioId, oneshot::Sender<()>),
    /// A session has nothing to do any more, and has heard so many messages from here.
    Unused {
        scenario: ScenarioId,
        actor: ActorId,
        heard: u64,
    },
    /// Hand every session over, then tell.
    Drain(oneshot::Sender<()>),
}

/// The way to all shards; outlives their restarts.
#[derive(Clone)]
pub struct Shards(Arc<[Slot]>);

/// Where a shard publishes itself.
type Slot = Mutex<Option<ActorRef<ShardMsg>>>;

impl Shards {
    pub fn new(count: usize) -> Self {
        Self((0..count.max(1)).map(|_| Slot::default()).collect())
    }

    /// Sends to the scenario's shard.
    ///
    /// # Errors
    /// The message comes back if the shard is being restarted.
    pub fn send(&self, scenario: ScenarioId, message: ShardMsg) -> Result<(), ShardMsg> {
        let slot = self.slot(scenario);
        let shard = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match shard {
            None => Err(message),
            Some(shard) => shard.cast(message).map_err(|error| match error {
                ractor::MessagingErr::SendErr(message) => message,
                _ => ShardMsg::Resume(scenario),
            }),
        }
    }

    /// As [`Shards::send`], for what may get lost.
    pub fn tell(&self, scenario: ScenarioId, message: ShardMsg) {
        if self.send(scenario, message).is_err() {
            tracing::debug!(%scenario, "shard is being restarted");
        }
    }

    /// Has every shard hand its sessions over.
    pub async fn drain(&self) {
        let drained = self.0.iter().filter_map(|slot| {
            let shard = slot.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
            let (done, drained) = oneshot::channel();
            shard.cast(ShardMsg::Drain(done)).ok()?;
            Some(drained)
        });
        join_all(drained.collect::<Vec<_>>()).await;
    }

    fn slot(&self, scenario: ScenarioId) -> &Slot {
        // The random part of a UUIDv7 is in its low bits.
        let shards = self.0.len() as u128;
        &self.0[usize::try_from(scenario.0.as_u128() % shards).unwrap_or(0)]
    }

    /// The shards' rows in the tree.
    pub fn children(&self, deps: &Arc<GenerationDeps>) -> Vec<ChildSpec> {
        (0..self.0.len()).map(|index| self.child(index, deps)).collect()
    }

    fn child(&self, index: usize, deps: &Arc<GenerationDeps>) -> ChildSpec {
        let (slots, deps) = (Arc::clone(&self.0), Arc::clone(deps));
        ChildSpec::permanent("session-shard", move |parent| {
            let args = ShardArgs { slots: Arc::clone(&slots), index, deps: Arc::clone(&deps) };
            Box::pin(async move {
                let (shard, _) = Actor::spawn_linked(None, Shard, args, parent).await?;
                Ok(shard.get_cell())
            })
        })
        .shutdown(Duration::from_secs(10))
        .stop_with(|cell, budget| {
            Box::pin(async move {
                let (done, drained) = oneshot::channel();
                if cell.send_message(ShardMsg::Drain(done)).is_ok() {
                    let _ = tokio::time::timeout(budget, drained).await;
                }
                let _ = cell.stop_and_wait(None, Some(budget)).await;
            })
        })
    }
}

struct Shard;

struct ShardArgs {
    slots: Arc<[Slot]>,
    index: usize,
    deps: Arc<GenerationDeps>,
}

struct ShardState {
    deps: Arc<GenerationDeps>,
    sessions: HashMap<ScenarioId, Live>,
    scenarios: HashMap<ActorId, ScenarioId>,
}

struct Live {
    session: ActorRef<SessionMsg>,
    /// Messages sent to it.
    sent: u64,
}

impl Live {
    fn tell(&mut self, message: SessionMsg) {
        self.sent += 1;
        let _ = self.session.cast(message);
    }
}

impl Actor for Shard {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = ShardArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMsg>,
        args: ShardArgs,
    ) -> Result<ShardState, ActorProcessingErr> {
        let mut slot = args.slots[args.index].lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(myself);
        drop(slot);
        Ok(ShardState { deps: args.deps, sessions: HashMap::new(), scenarios: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<ShardMsg>,
        message: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMsg::Command(scenario, asked) => {
                state.session(&myself, scenario).await?.tell(SessionMsg::Command(asked));
            }
            ShardMsg::Resume(scenario) => {
                state.session(&myself, scenario).await?.tell(SessionMsg::Resume);
            }
            ShardMsg::Stop(scenario, stop) => {
                state.session(&myself, scenario).await?.tell(SessionMsg::Stop(stop));
            }
            ShardMsg::LeaseLost(scenario, fence) => {
                if let Some(live) = state.sessions.get_mut(&scenario) {
                    live.tell(SessionMsg::LeaseLost(fence));
                }
            }
            ShardMsg::Leave(scenario, left) => match state.sessions.remove(&scenario) {
                Some(live) => drop(live.session.cast(SessionMsg::Leave(left))),
                None => drop(left.send(())),
            },
            ShardMsg::Unused { scenario, actor, heard } => {
                // What it has not heard yet would die with it.
                let idle = |live: &Live| live.session.get_id() == actor && live.sent == heard;
                if state.sessions.get(&scenario).is_some_and(idle)
                    && let Some(live) = state.sessions.remove(&scenario)
                {
                    live.session.stop(None);
                }
            }
            ShardMsg::Drain(drained) => {
                let leaving = state.sessions.drain().map(|(_, live)| {
                    let (left, done) = oneshot::channel();
                    let _ = live.session.cast(SessionMsg::Leave(left));
                    done
                });
                let leaving: Vec<_> = leaving.collect();
                tokio::spawn(async move {
                    join_all(leaving).await;
                    let _ = drained.send(());
                });
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<ShardMsg>,
        event: SupervisionEvent,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        let who = match event {
            SupervisionEvent::ActorTerminated(who, ..) => who,
            SupervisionEvent::ActorFailed(who, error) => {
                tracing::error!(%error, "session died; it comes back on demand");
                who
            }
            _ => return Ok(()),
        };
        if let Some(scenario) = state.scenarios.remove(&who.get_id()) {
            let known = state.sessions.get(&scenario).map(|live| live.session.get_id());
            if known == Some(who.get_id()) {
                state.sessions.remove(&scenario);
            }
        }
        state.give_back();
        Ok(())
    }
}

impl ShardState {
    async fn session(
        &mut self,
        myself: &ActorRef<ShardMsg>,
        scenario: ScenarioId,
    ) -> Result<&mut Live, ActorProcessingErr> {
        let vacant = match self.sessions.entry(scenario) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(vacant) => vacant,
        };
        let args = SessionArgs { scenario, deps: Arc::clone(&self.deps), shard: myself.clone() };
        let (session, _) = Actor::spawn_linked(None, Session, args, myself.get_cell()).await?;
        self.scenarios.insert(session.get_id(), scenario);
        Ok(vacant.insert(Live { session, sent: 0 }))
    }

    /// Memory of a crowd that has left.
    fn give_back(&mut self) {
        if self.sessions.capacity() > 64 && self.sessions.len() < self.sessions.capacity() / 4 {
            self.sessions.shrink_to_fit();
            self.scenarios.shrink_to_fit();
        }
    }
}
