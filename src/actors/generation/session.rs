//! A session: the live side of one scenario.
//!
//! It takes the scenario's commands one at a time, starts a turn for each, and remembers what was answered. It holds
//! nothing while unused: first it gives up pen and lease ([`Phase::Dormant`]), later it stops. Its mailbox waits for
//! nobody: loading and telling happen elsewhere and come back as messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use tracing::{Instrument, Span};

use super::GenerationDeps;
use super::checkpoint::Checkpoint;
use super::load::{self, LoadError, Loaded};
use super::shard::ShardMsg;
use super::turn::{self, Accepted, Signals, TurnArgs, TurnState, Work};
use super::writer::{LogWriter, WriteError};
use crate::domain::ids::{ScenarioId, SceneId, TurnId};
use crate::domain::scenario::{Choice, Scenario};
use crate::domain::turn::{Command, Request};
use crate::error::{Code, ServiceError};

/// Pen and lease are given up after this long without a turn.
const LINGER: Duration = Duration::from_secs(5);
/// Commands that may wait while the session loads.
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
    Stop {
        turn: TurnId,
        reply: oneshot::Sender<Result<(), ServiceError>>,
    },
    /// Take the open turn up, if there is one.
    Resume,
    Loaded(Box<Result<Loaded, LoadError>>),
    LeaseLost,
    /// Look whether anything is still to be held.
    Look,
    /// Leave everything at the log's head for another replica, then stop.
    Leave(oneshot::Sender<()>),
}

/// A command on its way.
pub struct Asked {
    pub request: Request,
    pub accepted: Accepted,
    pub permit: OwnedSemaphorePermit,
    /// The request's, so that what it leads to logs under its id.
    pub span: Span,
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
    leaving: Vec<oneshot::Sender<()>>,
    used: Instant,
    look_planned: bool,
    load_failures: u32,
    _counted: Counted,
}

/// One of the live sessions, as long as its state lives.
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
}

struct Telling {
    actor: ActorId,
    scenario: Arc<Scenario>,
    /// The turn and, unless it was taken up, its command.
    turn: TurnId,
    asked: Option<(String, Command)>,
    signals: Signals,
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
            _counted: Counted::new(&args.deps.sessions),
            args,
            phase: Phase::Dormant,
            waiting: VecDeque::new(),
            leaving: Vec::new(),
            used: Instant::now(),
            look_planned: false,
            load_failures: 0,
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
                state.used = Instant::now();
                state.command(&myself, asked).await?;
            }
            SessionMsg::Stop { turn, reply } => {
                let _ = reply.send(state.stop(turn));
            }
            SessionMsg::Resume => state.load(&myself),
            SessionMsg::Loaded(loaded) => state.loaded(&myself, *loaded).await?,
            SessionMsg::LeaseLost => state.lose(),
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
                let outcome = ended.and_then(|mut boxed| boxed.take::<TurnState>().ok());
                state.turn_over(&myself, who.get_id(), outcome).await
            }
            SupervisionEvent::ActorFailed(who, error) => {
                let fenced = matches!(
                    error.downcast_ref::<turn::TurnError>(),
                    Some(turn::TurnError::Write(WriteError::Fenced))
                );
                if fenced {
                    tracing::warn!(scenario = %state.args.scenario, "another owner took over");
                } else {
                    tracing::error!(scenario = %state.args.scenario, %error, "turn died");
                }
                state.turn_over(&myself, who.get_id(), None).await
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
            let _ = asked.accepted.send(Err(busy));
            return Ok(());
        }
        match &self.phase {
            Phase::Dormant | Phase::Loading => {
                if self.waiting.len() >= MAX_WAITING {
                    let busy = ServiceError::unavailable("this scenario", Duration::from_secs(1));
                    let _ = asked.accepted.send(Err(busy));
                } else {
                    self.waiting.push_back(asked);
                    self.load(myself);
                }
            }
            Phase::Telling(telling) => {
                let Asked { request, accepted, .. } = *asked;
                let _ = accepted.send(telling.answer(&request));
            }
            Phase::Ready(ready) => match ready.admit(&asked.request) {
                Ok(None) => self.begin(myself, asked).await?,
                Ok(Some(turn)) => drop(asked.accepted.send(Ok(turn))),
                Err(error) => drop(asked.accepted.send(Err(error))),
            },
        }
        Ok(())
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
        let asked = Some((key.clone(), command.clone()));
        let work = Work::Begin { command, key, turn, accepted };
        self.tell(myself, *ready, turn, asked, work, Some(permit)).await
    }

    async fn tell(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        ready: Ready,
        turn: TurnId,
        asked: Option<(String, Command)>,
        work: Work,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(), ActorProcessingErr> {
        let Ready { scenario, writer, checkpoint, current } = ready;
        let signals = Signals::default();
        let args = TurnArgs {
            deps: Arc::clone(&self.args.deps),
            scenario: Arc::clone(&scenario),
            writer,
            checkpoint,
            current,
            work,
            signals: signals.clone(),
            permit,
            span: Span::current(),
        };
        let actor = turn::spawn(args, myself.get_cell()).await?.get_id();
        self.phase = Phase::Telling(Box::new(Telling { actor, scenario, turn, asked, signals }));
        Ok(())
    }

    fn stop(&self, turn: TurnId) -> Result<(), ServiceError> {
        match &self.phase {
            Phase::Telling(telling) if telling.turn == turn => {
                telling.signals.stop.cancel();
                Ok(())
            }
            _ => Err(ServiceError::new(Code::TurnNotFound, "this turn is not running")),
        }
    }

    fn load(&mut self, myself: &ActorRef<SessionMsg>) {
        if matches!(self.phase, Phase::Dormant) && self.leaving.is_empty() {
            self.phase = Phase::Loading;
            let (deps, scenario) = (Arc::clone(&self.args.deps), self.args.scenario);
            let session = myself.clone();
            let load = async move {
                let loaded = load::load(&deps, scenario).await;
                let _ = session.cast(SessionMsg::Loaded(Box::new(loaded)));
            };
            tokio::spawn(load.in_current_span());
        }
    }

    async fn loaded(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        loaded: Result<Loaded, LoadError>,
    ) -> Result<(), ActorProcessingErr> {
        self.phase = Phase::Dormant;
        let Loaded { ready, permit } = match loaded {
            Ok(loaded) => loaded,
            Err(LoadError { error, retry }) => {
                for asked in self.waiting.drain(..) {
                    let _ = asked.accepted.send(Err(error.clone()));
                }
                // Nobody else would take an open turn up as long as this session is here.
                self.load_failures += 1;
                if retry && self.leaving.is_empty() && self.load_failures <= MAX_ATTEMPTS {
                    let wait = Duration::from_millis(100) * (1 << self.load_failures);
                    myself.send_after(wait, || SessionMsg::Resume);
                }
                self.plan_look(myself);
                self.leave(myself).await;
                return Ok(());
            }
        };
        self.load_failures = 0;
        if !self.leaving.is_empty() {
            ready.writer.release().await;
            self.leave(myself).await;
            return Ok(());
        }
        if let Some(open) = &ready.checkpoint.open {
            let turn = open.turn;
            let gone = open.attempts >= MAX_ATTEMPTS;
            if gone {
                tracing::error!(scenario = %self.args.scenario, %turn, "turn given up");
            }
            let work = if gone { Work::GiveUp } else { Work::Resume };
            self.tell(myself, ready, turn, None, work, permit).await?;
            let refused = std::mem::take(&mut self.waiting);
            for asked in refused {
                self.command(myself, asked).await?;
            }
            return Ok(());
        }
        self.phase = Phase::Ready(Box::new(ready));
        self.serve_waiting(myself).await?;
        self.plan_look(myself);
        Ok(())
    }

    async fn serve_waiting(
        &mut self,
        myself: &ActorRef<SessionMsg>,
    ) -> Result<(), ActorProcessingErr> {
        while !matches!(self.phase, Phase::Dormant | Phase::Loading)
            && let Some(asked) = self.waiting.pop_front()
        {
            self.command(myself, asked).await?;
        }
        Ok(())
    }

    async fn turn_over(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        actor: ActorId,
        ended: Option<TurnState>,
    ) -> Result<(), ActorProcessingErr> {
        match &self.phase {
            Phase::Telling(telling) if telling.actor == actor => {}
            _ => return Ok(()),
        }
        let Phase::Telling(telling) = std::mem::replace(&mut self.phase, Phase::Dormant) else {
            return Ok(());
        };
        self.used = Instant::now();
        let halted = telling.signals.halt.is_cancelled();
        match ended.and_then(TurnState::into_outcome) {
            Some(outcome) if halted => outcome.writer.release().await,
            Some(outcome) => {
                let super::turn::Outcome { writer, checkpoint, current } = *outcome;
                let scenario = telling.scenario;
                self.phase =
                    Phase::Ready(Box::new(Ready { scenario, writer, checkpoint, current }));
            }
            // It died or lost its pen: what the log says now decides how to go on.
            None if !halted => self.load(myself),
            None => {}
        }
        self.plan_look(myself);
        self.leave(myself).await;
        Ok(())
    }

    /// Someone else may own the log: nothing may be written any more.
    fn lose(&mut self) {
        match &self.phase {
            Phase::Telling(telling) => telling.signals.halt.cancel(),
            Phase::Ready(_) => self.phase = Phase::Dormant,
            Phase::Dormant | Phase::Loading => {}
        }
    }

    fn plan_look(&mut self, myself: &ActorRef<SessionMsg>) {
        if !self.look_planned {
            self.look_planned = true;
            let idle = self.args.deps.config.idle_timeout;
            let held = matches!(self.phase, Phase::Ready(_));
            myself.send_after(if held { LINGER.min(idle) } else { idle }, || SessionMsg::Look);
        }
    }

    async fn look(&mut self, myself: &ActorRef<SessionMsg>) {
        self.look_planned = false;
        let unused = self.used.elapsed();
        if matches!(self.phase, Phase::Ready(_))
            && unused >= LINGER.min(self.args.deps.config.idle_timeout)
            && let Phase::Ready(ready) = std::mem::replace(&mut self.phase, Phase::Dormant)
        {
            ready.writer.tail().relax();
            ready.writer.release().await;
        }
        match self.phase {
            Phase::Dormant if unused >= self.args.deps.config.idle_timeout => {
                // The shard forgets this session before it stops, so that no command gets lost.
                let (scenario, actor) = (self.args.scenario, myself.get_id());
                let _ = self.args.shard.cast(ShardMsg::Unused { scenario, actor });
            }
            Phase::Telling(_) | Phase::Loading => {}
            _ => self.plan_look(myself),
        }
    }

    async fn leave(&mut self, myself: &ActorRef<SessionMsg>) {
        if self.leaving.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Dormant) {
            Phase::Telling(telling) => {
                telling.signals.halt.cancel();
                self.phase = Phase::Telling(telling);
                return;
            }
            Phase::Loading => {
                self.phase = Phase::Loading;
                return;
            }
            Phase::Ready(ready) => ready.writer.release().await,
            Phase::Dormant => {}
        }
        for left in self.leaving.drain(..) {
            let _ = left.send(());
        }
        myself.stop(None);
    }
}

impl Ready {
    /// Whether the command may become a turn; `Some` is the answer that it got before.
    fn admit(&self, request: &Request) -> Result<Option<TurnId>, ServiceError> {
        let key = request.key.clone().unwrap_or_else(|| request.turn.to_string());
        if let Some(turn) = self.checkpoint.find_answer(&key, &request.command)? {
            return Ok(Some(turn));
        }
        match &request.command {
            Command::Begin if self.checkpoint.next_scene > SceneId::FIRST => {
                Err(ServiceError::new(Code::Conflict, "this scenario has begun already"))
            }
            Command::Begin
            | Command::Retry { .. }
            | Command::Edit { .. }
            | Command::Jump { .. } => Ok(None),
            Command::Say { scene, .. } => self.at(*scene).map(|_| None),
            Command::Choose { scene, choice } => {
                let current = self.at(*scene)?;
                match current.choices.iter().any(|offered| offered.id == *choice) {
                    true => Ok(None),
                    false => Err(ServiceError::invalid_field("choice", "is not offered here")),
                }
            }
        }
    }

    fn at(&self, scene: SceneId) -> Result<&Current, ServiceError> {
        match &self.current {
            Some(current) if current.scene == scene => Ok(current),
            Some(current) if scene >= self.checkpoint.next_scene || current.scene.0 == 0 => {
                Err(ServiceError::scene_not_found())
            }
            Some(current) => Err(ServiceError::new(
                Code::StaleScene,
                format!("the story goes on from {} now", current.scene),
            )),
            None => Err(ServiceError::scene_not_found()),
        }
    }
}

impl Telling {
    /// A repeat of the running command gets its answer, anything else has to wait.
    fn answer(&self, request: &Request) -> Result<TurnId, ServiceError> {
        if let Some((key, command)) = &self.asked
            && request.key.as_ref() == Some(key)
        {
            return match *command == request.command {
                true => Ok(self.turn),
                false => Err(ServiceError::new(
                    Code::IdempotencyConflict,
                    "this idempotency key was used for another command",
                )),
            };
        }
        Err(ServiceError::new(Code::TurnInProgress, "a turn of this scenario is running"))
    }
}
