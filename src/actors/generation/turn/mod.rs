//! A turn: one temporary actor that writes one scene into the log and then ends.
//!
//! It is linked to its session, owns the log's pen while it runs, and hands it back with its outcome. The session's
//! mailbox stays free meanwhile: stop and drain reach the turn through [`Signals`]. Its parts: `script.rs` is the
//! course of a turn, `pump.rs` reads a provider's stream, `gate.rs` has it moderated, `expense.rs` pays for it,
//! `scene.rs` ends one.

mod expense;
mod failover;
mod gate;
mod pump;
mod scene;
mod script;
mod signals;

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tracing::{Instrument, Span};

pub use expense::Expense;
pub use signals::Signals;

use super::GenerationDeps;
use super::carry::Carry;
use super::checkpoint::Checkpoint;
use super::draft::Draft;
use super::session::{Current, Refused};
use super::speculate::Ahead;
use super::writer::{LogWriter, WriteError};
use crate::domain::ids::TurnId;
use crate::domain::scenario::Scenario;
use crate::domain::turn::Command;

/// Answer to a command.
pub type Answer = Result<TurnId, Refused>;

/// Where the command that starts a turn is answered, once its first event is in the log.
pub struct Accepted {
    pub asker: oneshot::Sender<Answer>,
    /// For those who repeat the command meanwhile.
    pub repeats: watch::Sender<Option<Answer>>,
}

impl Accepted {
    pub fn send(self, answer: Answer) {
        self.repeats.send_replace(Some(answer.clone()));
        let _ = self.asker.send(answer);
    }
}

pub enum Work {
    Begin {
        command: Command,
        key: String,
        turn: TurnId,
        accepted: Accepted,
    },
    /// Goes on with the checkpoint's open turn.
    Resume,
    /// Ends the checkpoint's open turn as failed: it was taken up too often.
    GiveUp,
}

pub struct TurnArgs {
    pub deps: Arc<GenerationDeps>,
    pub scenario: Arc<Scenario>,
    pub writer: LogWriter,
    pub checkpoint: Checkpoint,
    pub current: Option<Current>,
    /// Calls for what the command may be.
    pub ahead: Option<Ahead>,
    pub work: Work,
    pub signals: Signals,
    /// The turn's place among those running on this replica.
    pub permit: Option<OwnedSemaphorePermit>,
    /// The command's; none for a turn that is taken up.
    pub span: Span,
}

/// What a turn leaves to its session.
pub struct Outcome {
    pub writer: LogWriter,
    pub checkpoint: Checkpoint,
    pub current: Option<Current>,
    /// A store did not say what it did: `current` may not be what is stored.
    pub doubtful: bool,
    /// What was told of a turn that was halted.
    pub left: Option<Draft>,
}

/// A turn that ended without an outcome, and what it knew: its log may be lost.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Broken {
    pub error: TurnError,
    pub carry: Box<Carry>,
}

/// Why a turn ended without an outcome.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the log does not hold the open turn")]
    Unreadable,
}

pub struct Turn;

pub struct Run;

pub struct TurnState {
    args: Option<Box<TurnArgs>>,
    outcome: Option<Box<Outcome>>,
}

impl TurnState {
    /// What an ended turn's state holds, if it ended well.
    pub fn into_outcome(self) -> Option<Box<Outcome>> {
        self.outcome
    }
}

/// Starts a turn linked to its session.
pub async fn spawn(args: TurnArgs, session: ActorCell) -> Result<ActorCell, SpawnErr> {
    let (turn, _) = Actor::spawn_linked(None, Turn, Box::new(args), session).await?;
    Ok(turn.get_cell())
}

impl Actor for Turn {
    type Msg = Run;
    type State = TurnState;
    type Arguments = Box<TurnArgs>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Run>,
        args: Box<TurnArgs>,
    ) -> Result<TurnState, ActorProcessingErr> {
        Ok(TurnState { args: Some(args), outcome: None })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Run>,
        _state: &mut TurnState,
    ) -> Result<(), ActorProcessingErr> {
        Ok(myself.cast(Run)?)
    }

    async fn handle(
        &self,
        myself: ActorRef<Run>,
        _run: Run,
        state: &mut TurnState,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(args) = state.args.take() {
            let (span, scenario) = (args.span.clone(), args.scenario.id);
            let run = async move {
                let outcome = script::run(*args).await;
                tracing::debug!(%scenario, ended_well = outcome.is_ok(), "turn over");
                outcome
            };
            state.outcome = Some(Box::new(run.instrument(span).await?));
        }
        myself.stop(None);
        Ok(())
    }
}
