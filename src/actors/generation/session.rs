//! A session: the live side of one scenario.
//!
//! It takes the scenario's commands one at a time, starts a turn for each, and remembers what was answered. It holds
//! nothing while unused: first it gives up pen and lease ([`Phase::Dormant`]), later it stops. Its mailbox waits for
//! nobody: loading and telling happen elsewhere and come back as messages.

mod admission;
mod ending;
mod loading;
mod resting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::GenerationDeps;
use super::carry::Carry;
use super::checkpoint::Checkpoint;
use super::load::{LoadError, Loaded};
use super::shard::ShardMsg;
use super::speculate::Ahead;
use super::turn::{self, Accepted, Answer, Signals, TurnArgs, TurnError, TurnState, Work};
use super::writer::{LogWriter, WriteError};
use crate::domain::ids::{ScenarioId, SceneId, TurnId};
use crate::domain::scenario::{Choice, Scenario};
use crate::domain::turn::{Command, Request};
use crate::error::{Code, ServiceError};
use crate::storage::log::Fence;

/// Commands, and stops, that may wait while the session loads.
const MAX_WAITING: usize = 16;
/// A turn that was taken up this often without success is given up.
const MAX_ATTEMPTS: u32 = 5;

/// The scene that the story goes on from.
#[derive(Debug, Clone)]
pub struct Current {
    pub scene: SceneId,
    pub choices: Vec<Choice>,
}

pub enum SessionMsg {
    Command(Box<Asked>),
    Stop(Stop),
    /// Take the open turn up, if there is one.
    Resume,
    LeaseLost(Fence),
    /// As `Resume`, from the session itself.
    Reload,
    Loaded(Box<Result<Loaded, LoadError>>),
    /// Look whether anything is still to be held.
    Look,
    /// Leave everything at the log's head for another replica, then stop.
    Leave(oneshot::Sender<()>),
}

/// A command on its way.
pub struct Asked {
    pub request: Request,
    pub accepted: oneshot::Sender<Answer>,
    pub permit: OwnedSemaphorePermit,
    /// The request's, so that what it leads to logs under its id.
    pub span: Span,
}

/// A reader's stop on its way.
pub struct Stop {
    pub turn: TurnId,
    pub reply: oneshot::Sender<Result<(), Refused>>,
}

/// Why a session does not do what it is asked.
#[derive(Debug, Clone)]
pub enum Refused {
    Error(ServiceError),
    /// It lives on another replica, which is to be asked.
    Elsewhere(Elsewhere),
}

impl From<ServiceError> for Refused {
    fn from(error: ServiceError) -> Self {
        Refused::Error(error)
    }
}

/// Who owns a session, and for how long at least unless the lease is renewed.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    pub holder: String,
    pub expires_in: Duration,
}

pub struct Session;

pub struct SessionArgs {
    pub scenario: ScenarioId,
    pub deps: Arc<GenerationDeps>,
    pub shard: ActorRef<ShardMsg>,
}

pub struct SessionState {
    args: SessionArgs,
    phase: Phase,
    waiting: VecDeque<Box<Asked>>,
    stopping: Vec<Stop>,
    leaving: Vec<oneshot::Sender<()>>,
    used: Instant,
    /// When to look next whether anything is still to be held.
    look_at: Option<Instant>,
    /// Messages that the shard sent here: with its own count it knows whether one is still on its way.
    heard: u64,
    /// Loads and turns that failed in a row.
    failures: u32,
    /// After a failure: not to be taken up by others before.
    rests_until: Instant,
    /// What the session knew when it lost its pen, until it has another one.
    carry: Option<Arc<Carry>>,
    /// The last scene whose choices were begun ahead: once is enough.
    begun_after: Option<SceneId>,
    /// Until it leaves: its state itself outlives it, on the way to the shard.
    counted: Option<Counted>,
}

/// One of the live sessions.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(sessions: &Arc<AtomicUsize>) -> Self {
        sessions.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(sessions))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Phase {
    /// Nothing held.
    Dormant,
    Loading,
    Ready(Box<Ready>),
    Telling(Box<Telling>),
}

pub struct Ready {
    pub scenario: Arc<Scenario>,
    pub writer: LogWriter,
    pub checkpoint: Checkpoint,
    pub current: Option<Current>,
    /// Calls for what may be chosen next.
    pub ahead: Option<Ahead>,
}

struct Telling {
    actor: ActorId,
    scenario: Arc<Scenario>,
    turn: TurnId,
    /// Its command, unless the turn was taken up.
    asked: Option<Running>,
    /// What earlier commands were answered.
    answered: Checkpoint,
    fence: Fence,
    signals: Signals,
}

/// The command of a running turn.
struct Running {
    key: String,
    command: Command,
    answer: watch::Receiver<Option<Answer>>,
}

impl Actor for Session {
    type Msg = SessionMsg;
    type State = SessionState;
    type Arguments = SessionArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<SessionMsg>,
        args: SessionArgs,
    ) -> Result<SessionState, ActorProcessingErr> {
        Ok(SessionState {
            counted: Some(Counted::new(&args.deps.sessions)),
            args,
            phase: Phase::Dormant,
            waiting: VecDeque::new(),
            stopping: Vec::new(),
            leaving: Vec::new(),
            used: Instant::now(),
            look_at: None,
            heard: 0,
            failures: 0,
            rests_until: Instant::now(),
            carry: None,
            begun_after: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<SessionMsg>,
        message: SessionMsg,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SessionMsg::Command(asked) => {
                state.heard += 1;
                state.used = Instant::now();
                state.command(&myself, asked).await?;
            }
            SessionMsg::Stop(stop) => {
                state.heard += 1;
                state.stop(&myself, stop);
            }
            SessionMsg::Resume => {
                state.heard += 1;
                if state.rests_until <= Instant::now() {
                    state.load(&myself);
                }
            }
            SessionMsg::LeaseLost(fence) => {
                state.heard += 1;
                state.lose(&myself, fence);
            }
            SessionMsg::Reload => state.load(&myself),
            SessionMsg::Loaded(loaded) => state.loaded(&myself, *loaded).await?,
            SessionMsg::Look => state.look(&myself).await,
            SessionMsg::Leave(left) => {
                state.leaving.push(left);
                state.leave(&myself).await;
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<SessionMsg>,
        event: SupervisionEvent,
        state: &mut SessionState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, ended, _) => {
                let ended = ended.and_then(|mut boxed| boxed.take::<TurnState>().ok());
                let outcome = ended.and_then(TurnState::into_outcome);
                state.turn_over(&myself, who.get_id(), outcome.ok_or(None)).await
            }
            SupervisionEvent::ActorFailed(who, error) => {
                let scenario = state.args.scenario;
                let carry = match error.downcast::<turn::Broken>() {
                    Ok(broken) => {
                        match &broken.error {
                            TurnError::Write(WriteError::Fenced) => {
                                tracing::warn!(%scenario, "another owner took over, or the log is lost");
                            }
                            error => tracing::error!(%scenario, %error, "turn died"),
                        }
                        Some(broken.carry)
                    }
                    Err(error) => {
                        tracing::error!(%scenario, %error, "turn died");
                        None
                    }
                };
                state.turn_over(&myself, who.get_id(), Err(carry)).await
            }
            _ => Ok(()),
        }
    }
}

impl SessionState {
    async fn command(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        asked: Box<Asked>,
    ) -> Result<(), ActorProcessingErr> {
        let span = asked.span.clone();
        self.answer(myself, asked).instrument(span).await
    }

    async fn answer(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        asked: Box<Asked>,
    ) -> Result<(), ActorProcessingErr> {
        if !self.leaving.is_empty() {
            let busy = ServiceError::unavailable("this replica", Duration::from_secs(1));
            let _ = asked.accepted.send(Err(busy.into()));
            return Ok(());
        }
        match &self.phase {
            Phase::Dormant | Phase::Loading => {
                self.wait(asked);
                self.load(myself);
            }
            // Its sender may know that the turn is over: it waits for the little that is left.
            Phase::Telling(telling) if telling.is_nearly_over_for(&asked.request) => {
                self.wait(asked);
            }
            Phase::Telling(telling) => telling.answer(&asked.request, asked.accepted),
            Phase::Ready(ready) => match ready.admit(&asked.request) {
                Ok(None) => self.begin(myself, asked).await?,
                Ok(Some(turn)) => drop(asked.accepted.send(Ok(turn))),
                Err(error) => drop(asked.accepted.send(Err(error.into()))),
            },
        }
        Ok(())
    }

    /// Keeps a command until it can be looked at.
    fn wait(&mut self, asked: Box<Asked>) {
        if self.waiting.len() >= MAX_WAITING {
            let busy = ServiceError::unavailable("this scenario", Duration::from_secs(1));
            let _ = asked.accepted.send(Err(busy.into()));
        } else {
            self.waiting.push_back(asked);
        }
    }

    async fn begin(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        asked: Box<Asked>,
    ) -> Result<(), ActorProcessingErr> {
        let Phase::Ready(ready) = std::mem::replace(&mut self.phase, Phase::Dormant) else {
            return Ok(());
        };
        let Asked { request, accepted, permit, span: _ } = *asked;
        let Request { command, key, turn } = request;
        let key = key.unwrap_or_else(|| turn.to_string());
        let turn = ready.ahead.as_ref().and_then(|ahead| ahead.turn_of(&command)).unwrap_or(turn);
        let (repeats, answer) = watch::channel(None);
        let asked = Some(Running { key: key.clone(), command: command.clone(), answer });
        let accepted = Accepted { asker: accepted, repeats };
        let work = Work::Begin { command, key, turn, accepted };
        self.tell(myself, *ready, turn, asked, work, Some(permit)).await
    }

    async fn tell(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        ready: Ready,
        turn: TurnId,
        asked: Option<Running>,
        work: Work,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(), ActorProcessingErr> {
        let Ready { scenario, writer, checkpoint, current, ahead } = ready;
        let signals = Signals::default();
        let (answered, fence) = (checkpoint.clone(), writer.fence());
        let args = TurnArgs {
            deps: Arc::clone(&self.args.deps),
            scenario: Arc::clone(&scenario),
            writer,
            checkpoint,
            current,
            ahead,
            work,
            signals: signals.clone(),
            permit,
            span: Span::current(),
        };
        let actor = turn::spawn(args, myself.get_cell()).await?.get_id();
        self.phase = Phase::Telling(Box::new(Telling {
            actor,
            scenario,
            turn,
            asked,
            answered,
            fence,
            signals,
        }));
        Ok(())
    }

    fn stop(&mut self, myself: &ActorRef<SessionMsg>, stop: Stop) {
        let answer = match &self.phase {
            Phase::Telling(telling) if telling.turn == stop.turn => {
                telling.signals.stop();
                Ok(())
            }
            // It may be about to be taken up.
            Phase::Dormant | Phase::Loading if self.leaving.is_empty() => {
                if self.stopping.len() < MAX_WAITING {
                    self.stopping.push(stop);
                    return self.load(myself);
                }
                Err(ServiceError::unavailable("this scenario", Duration::from_secs(1)).into())
            }
            _ => Err(ServiceError::new(Code::TurnNotFound, "this turn is not running").into()),
        };
        let _ = stop.reply.send(answer);
    }
}
