//! What becomes of a session when its turn is over, or when it has lost its pen otherwise.

use std::sync::Arc;

use ractor::{ActorId, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::{Current, Phase, Ready, SessionMsg, SessionState};
use crate::actors::generation::carry::Carry;
use crate::actors::generation::checkpoint::Checkpoint;
use crate::actors::generation::draft::Draft;
use crate::actors::generation::speculate::Ahead;
use crate::actors::generation::turn::Outcome;
use crate::actors::generation::writer::LogWriter;
use crate::domain::scenario::Scenario;

impl SessionState {
    /// A turn has ended: with an outcome, or with what it knew when it lost its log, if it could still say so.
    pub(super) async fn turn_over(
        &mut self,
        myself: &ActorRef<SessionMsg>,
        actor: ActorId,
        ended: Result<Box<Outcome>, Option<Box<Carry>>>,
    ) -> Result<(), ActorProcessingErr> {
        match &self.phase {
            Phase::Telling(telling) if telling.actor == actor => {}
            _ => return Ok(()),
        }
        let Phase::Telling(telling) = std::mem::replace(&mut self.phase, Phase::Dormant) else {
            return Ok(());
        };
        self.used = Instant::now();
        let halted = telling.signals.is_halted();
        match ended {
            Ok(outcome) if halted || outcome.doubtful => {
                let Outcome { writer, checkpoint, left, .. } = *outcome;
                self.remember(&writer, checkpoint, left);
                writer.release().await;
                if halted {
                    self.reload_soon(myself);
                }
            }
            Ok(outcome) => {
                self.failures = 0;
                let Outcome { writer, checkpoint, current, .. } = *outcome;
                let scenario = telling.scenario;
                let ahead = self.begin_ahead(&scenario, current.as_ref());
                let ready = Ready { scenario, writer, checkpoint, current, ahead };
                self.phase = Phase::Ready(Box::new(ready));
            }
            // What the log says now decides how to go on.
            Err(carry) => {
                self.carry = carry.map(Arc::from).or(self.carry.take());
                self.args.deps.leases.forgive(self.args.scenario);
                self.reload_soon(myself);
            }
        }
        self.serve_waiting(myself).await?;
        self.plan_look(myself);
        self.leave(myself).await;
        Ok(())
    }

    /// Begins what may be chosen next, unless somebody goes on already.
    fn begin_ahead(
        &mut self,
        scenario: &Arc<Scenario>,
        current: Option<&Current>,
    ) -> Option<Ahead> {
        let current = current.filter(|current| self.begun_after != Some(current.scene))?;
        if !(self.waiting.is_empty() && self.leaving.is_empty()) {
            return None;
        }
        let ahead = Ahead::begin(&self.args.deps, scenario, current)?;
        self.begun_after = Some(current.scene);
        Some(ahead)
    }

    /// Keeps what is known of a log whose pen is lost.
    pub(super) fn remember(
        &mut self,
        writer: &LogWriter,
        checkpoint: Checkpoint,
        draft: Option<Draft>,
    ) {
        let (epoch, head) = (Arc::clone(writer.epoch()), writer.head());
        self.carry = Some(Arc::new(Carry { epoch, head, checkpoint, draft }));
    }
}
