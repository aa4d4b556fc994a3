//! The next scene, begun before the reader has chosen: a call for each choice that is offered.
//!
//! A session keeps [`Ahead`] beside its pen, and loses it with that: dropped, it gives every call up. When a choice is
//! made, the turn takes that choice's call as its own first one ([`Begun`]) and the others are given up. Off unless
//! configured. Nothing here knows a log: what is not chosen leaves no trace but its price.

mod call;
mod read;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use self::call::Call;
use super::GenerationDeps;
use super::material::Context;
use super::session::Current;
use super::turn::Expense;
use crate::domain::ids::{SceneId, TurnId};
use crate::domain::scenario::{Choice, Scenario};
use crate::domain::turn::Command;
use crate::providers::text::TextStream;

/// Longest that a command waits until calls that it has made unwanted are settled: what was reserved for them may be
/// what is left for its own.
const SETTLE_WITHIN: Duration = Duration::from_secs(1);

/// The calls for one scene's choices. Dropped, they are given up, and settled in the background.
pub struct Ahead {
    scene: SceneId,
    choices: Vec<Offered>,
    calls: TaskTracker,
}

/// The way to a choice's call.
struct Offered {
    choice: String,
    /// Of the turn that the choice would begin: its first call is reserved under this name.
    turn: TurnId,
    /// The provider that is asked.
    by: String,
    /// Whether the call is paid for and has not failed.
    made: Arc<AtomicBool>,
    /// Asks for the call's stream; dropped, it gives the call up.
    take: Take,
}

type Take = oneshot::Sender<oneshot::Sender<Opened>>;
type Taken = oneshot::Receiver<oneshot::Sender<Opened>>;

/// What came of a call: its stream, from the first word on; or the reason why there is none, as a `turn.failover` gives
/// it.
pub type Opened = Result<(TextStream, Option<Expense>), String>;

/// A turn's first call, made before the turn began. Dropped, it is given up.
pub struct Begun {
    /// The provider that was asked.
    pub by: String,
    opened: oneshot::Receiver<Opened>,
}

/// What the calls have in common.
struct Common {
    deps: Arc<GenerationDeps>,
    scenario: Arc<Scenario>,
    scene: SceneId,
    /// Loaded by the first one that needs it.
    context: OnceCell<Context>,
    /// One call is paid for after the other: each sees what those before it have left.
    paying: Semaphore,
}

impl Ahead {
    /// Begins the scenes that may come after `current`, soon; `None` if nothing is to be begun.
    pub fn begin(
        deps: &Arc<GenerationDeps>,
        scenario: &Arc<Scenario>,
        current: &Current,
    ) -> Option<Self> {
        let config = &deps.config;
        if !config.speculate || deps.turns.is_closed() || current.choices.is_empty() {
            return None;
        }
        let candidates = deps.texts.candidates(scenario.provider.as_deref());
        // The last one needs no time to begin.
        let text = candidates.first().filter(|_| candidates.len() > 1)?;
        let common = Arc::new(Common {
            deps: Arc::clone(deps),
            scenario: Arc::clone(scenario),
            scene: current.scene,
            context: OnceCell::new(),
            paying: Semaphore::new(1),
        });
        let calls = TaskTracker::new();
        let begin = |choice: &Choice| {
            let (take, taken) = oneshot::channel();
            let turn = TurnId::new(deps.clock.now());
            let made = Arc::new(AtomicBool::new(false));
            let call = Call {
                common: Arc::clone(&common),
                text: text.clone(),
                choice: choice.clone(),
                turn,
                made: Arc::clone(&made),
            };
            calls.spawn(call.run(taken));
            Offered { choice: choice.id.clone(), turn, by: text.name.clone(), made, take }
        };
        let choices = current.choices.iter().take(config.speculate_choices).map(begin).collect();
        calls.close();
        Some(Self { scene: current.scene, choices, calls })
    }

    /// The id that the turn has to have which this command begins, should it be one that was expected.
    pub fn turn_of(&self, command: &Command) -> Option<TurnId> {
        self.choices.iter().find(|offered| self.is(offered, command)).map(|offered| offered.turn)
    }

    /// The call for what the command asks, if it was made. All others are given up; without one to go on with, not before
    /// they are settled.
    pub async fn take(mut self, command: &Command) -> Option<Begun> {
        let wanted = self.choices.iter().position(|offered| self.is(offered, command));
        let wanted = wanted.map(|at| self.choices.swap_remove(at));
        let begun = wanted.and_then(Offered::take);
        if begun.is_none() {
            self.give_up().await;
        }
        begun
    }

    /// Gives all calls up and waits a little until they are settled.
    pub async fn give_up(self) {
        let Self { choices, calls, .. } = self;
        drop(choices);
        if tokio::time::timeout(SETTLE_WITHIN, calls.wait()).await.is_err() {
            tracing::debug!("calls that were begun ahead are settled later");
        }
    }

    fn is(&self, offered: &Offered, command: &Command) -> bool {
        matches!(command, Command::Choose { scene, choice } if *scene == self.scene && *choice == offered.choice)
    }
}

impl Offered {
    fn take(self) -> Option<Begun> {
        let made = self.made.load(Ordering::Acquire);
        let (reply, opened) = oneshot::channel();
        // Not told, it is given up; and it may be over by now.
        (made && self.take.send(reply).is_ok()).then_some(Begun { by: self.by, opened })
    }
}

impl Begun {
    /// Waits until the call has come to something; `None` if it was over before it could be taken.
    pub async fn opened(self) -> Option<Opened> {
        self.opened.await.ok()
    }
}
