//! How a session gives up what it holds: its pen after a while, itself after a longer one, all at once when it leaves.

use std::time::Duration;

use ractor::ActorRef;
use tokio::time::Instant;

use super::{Phase, Ready, SessionMsg, SessionState};
use crate::actors::generation::shard::ShardMsg;
use crate::storage::log::Fence;

/// Pen and lease are given up after this long without a turn.
const LINGER: Duration = Duration::from_secs(5);
/// Shortest wait until the next look.
const MIN_LOOK: Duration = Duration::from_secs(1);

impl SessionState {
    /// Someone else may own the log, or it is lost: nothing may be written any more with the pen of that claim.
    pub(super) fn lose(&mut self, myself: &ActorRef<SessionMsg>, fence: Fence) {
        match &self.phase {
            Phase::Telling(telling) if telling.fence == fence => telling.signals.halt(),
            Phase::Ready(ready) if ready.writer.fence() == fence => {
                if let Phase::Ready(ready) = std::mem::replace(&mut self.phase, Phase::Dormant) {
                    let Ready { writer, checkpoint, .. } = *ready;
                    self.remember(&writer, checkpoint, None);
                    drop(writer);
                    self.args.deps.leases.forgive(self.args.scenario);
                    self.plan_look(myself);
                }
            }
            _ => {}
        }
    }

    /// Another replica owns the session: nothing is to be done here.
    pub(super) fn part(&mut self, myself: &ActorRef<SessionMsg>) {
        let (scenario, actor, heard) = (self.args.scenario, myself.get_id(), self.heard);
        let _ = self.args.shard.cast(ShardMsg::Unused { scenario, actor, heard });
        // It refuses if something is on its way here.
        self.plan_look(myself);
    }

    /// Plans a look for when something may be given up, unless an earlier one is planned.
    pub(super) fn plan_look(&mut self, myself: &ActorRef<SessionMsg>) {
        let idle = self.args.deps.config.idle_timeout;
        let wait = self.linger().unwrap_or(idle);
        let due = (self.used + wait).max(Instant::now() + MIN_LOOK);
        if self.look_at.is_none_or(|planned| planned > due) {
            self.look_at = Some(due);
            myself.send_after(due - Instant::now(), || SessionMsg::Look);
        }
    }

    /// How long pen and lease are kept without a turn, if they are held. What was begun ahead goes with them.
    fn linger(&self) -> Option<Duration> {
        let Phase::Ready(ready) = &self.phase else { return None };
        let config = &self.args.deps.config;
        let linger = match ready.ahead {
            Some(_) => LINGER.max(config.speculate_for),
            None => LINGER,
        };
        Some(linger.min(config.idle_timeout))
    }

    pub(super) async fn look(&mut self, myself: &ActorRef<SessionMsg>) {
        // A look that was planned before an earlier one is none any more.
        if self.look_at.take_if(|due| *due <= Instant::now()).is_none() {
            return;
        }
        let unused = self.used.elapsed();
        if self.linger().is_some_and(|linger| unused >= linger)
            && let Phase::Ready(ready) = std::mem::replace(&mut self.phase, Phase::Dormant)
        {
            ready.writer.tail().relax();
            ready.writer.release().await;
        }
        match self.phase {
            Phase::Dormant
                if self.carry.is_none() && unused >= self.args.deps.config.idle_timeout =>
            {
                // The shard forgets this session before it stops, so that no command gets lost.
                self.part(myself);
            }
            Phase::Telling(_) | Phase::Loading => {}
            _ => self.plan_look(myself),
        }
    }

    pub(super) async fn leave(&mut self, myself: &ActorRef<SessionMsg>) {
        if self.leaving.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.phase, Phase::Dormant) {
            Phase::Telling(telling) => {
                telling.signals.halt();
                self.phase = Phase::Telling(telling);
                return;
            }
            Phase::Loading => {
                self.phase = Phase::Loading;
                return;
            }
            Phase::Ready(ready) => {
                let Ready { writer, ahead, .. } = *ready;
                writer.release().await;
                // While there is somebody to settle it with.
                if let Some(ahead) = ahead {
                    ahead.give_up().await;
                }
            }
            Phase::Dormant => {}
        }
        self.counted = None;
        for left in self.leaving.drain(..) {
            let _ = left.send(());
        }
        myself.stop(None);
    }
}
