//! How a session gets its pen: loads, one at a time, and what has waited for them.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorProcessingErr, ActorRef};
use tokio::time::Instant;
use tracing::Instrument;

use super::{MAX_ATTEMPTS, Phase, Refused, SessionMsg, SessionState};
use crate::actors::generation::load::{self, LoadError, Loaded};
use crate::actors::generation::turn::Work;
use crate::domain::turn::Command;

/// After so many failures in a row the session waits for another one to ask.
const REST: Duration = Duration::from_secs(2);

/// So many tries are made to get a lost log from someone who holds its lease: they last longer than one that is left
/// over from what the store went back to.
const HELD_TRIES: u32 = 8;

impl SessionState {
    pub(super) fn load(&mut self, myself: &ActorRef<SessionMsg>) {
        if matches!(self.phase, Phase::Dormant) && self.leaving.is_empty() {
            self.phase = Phase::Loading;
            let (deps, scenario) = (Arc::clone(&self.args.deps), self.args.scenario);
            let session = myself.clone();
            let carry = self.carry.clone();
            let is_new = self.waiting.iter().any(|asked| asked.request.command == Command::Begin);
            let load = async move {
                let loaded = load::load(&deps, scenario, is_new, carry).await;
                let _ = session.cast(SessionMsg::Loaded(Box::new(loaded)));
            };
            tokio::spawn(load.in_current_span());
        }
    }

    pub(super) async fn loaded(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        loaded: Result<Loaded, LoadError>,
    ) -> Result<(), ActorProcessingErr> {
        self.phase = Phase::Dormant;
        let Loaded { ready, permit } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                self.not_loaded(myself, error).await;
                return Ok(());
            }
        };
        self.carry = None;
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
            self.serve_stops(myself);
            return self.serve_waiting(myself).await;
        }
        self.failures = 0;
        self.phase = Phase::Ready(Box::new(ready));
        self.serve_stops(myself);
        self.serve_waiting(myself).await?;
        self.plan_look(myself);
        Ok(())
    }

    async fn not_loaded(&mut self, myself: &ActorRef<SessionMsg>, error: LoadError) {
        let LoadError { error, retry, held, carry } = error;
        self.carry = carry.or(self.carry.take());
        let refused = match held.clone() {
            Some(elsewhere) => Refused::Elsewhere(elsewhere),
            None => Refused::Error(error),
        };
        for asked in self.waiting.drain(..) {
            let _ = asked.accepted.send(Err(refused.clone()));
        }
        for stop in self.stopping.drain(..) {
            let _ = stop.reply.send(Err(refused.clone()));
        }
        let again = match (&held, &self.carry) {
            (None, None) => self.failures < MAX_ATTEMPTS,
            // Nobody but this session knows that a turn was open in a log that is lost.
            (None, Some(_)) => true,
            // Who holds the lease takes the open turn up; unless it only looked for a log that is lost.
            (Some(_), Some(_)) => self.failures < HELD_TRIES,
            (Some(_), None) => false,
        };
        if retry && again && self.leaving.is_empty() {
            self.reload_soon(myself);
            self.plan_look(myself);
        } else if held.is_some() {
            self.carry = None;
            self.part(myself);
        } else {
            self.rests_until = Instant::now() + REST;
            self.plan_look(myself);
        }
        self.leave(myself).await;
    }

    pub(super) async fn serve_waiting(
        &mut self,
        myself: &ActorRef<SessionMsg>,
    ) -> Result<(), ActorProcessingErr> {
        // Some may have to wait once more.
        for asked in std::mem::take(&mut self.waiting) {
            self.command(myself, asked).await?;
        }
        Ok(())
    }

    pub(super) fn serve_stops(&mut self, myself: &ActorRef<SessionMsg>) {
        for stop in std::mem::take(&mut self.stopping) {
            self.stop(myself, stop);
        }
    }

    /// Tries again after a failure, the later the more of them there were.
    pub(super) fn reload_soon(&mut self, myself: &ActorRef<SessionMsg>) {
        // What only this session knows is wanted as soon as the log can be had again.
        let most = if self.carry.is_some() { 4 } else { 8 };
        let wait = Duration::from_millis(50) * (1 << self.failures.min(most));
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Instant::now() + wait;
        myself.send_after(wait, || SessionMsg::Reload);
    }
}
