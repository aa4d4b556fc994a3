//! What becomes of a session when its turn is over, or when it has lost its pen otherwise.

use std::sync::Arc;

use ractor::{ActorId, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::{Phase, Ready, SessionMsg, SessionState};
use crate::actors::generation::carry::Carry;
use crate::actors::generation::checkpoint::Checkpoint;
use crate::actors::generation::draft::Draft;
use crate::actors::generation::turn::Outcome;
use crate::actors::generation::writer::LogWriter;

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
                self.phase =
                    Phase::Ready(Box::new(Ready { scenario, writer, checkpoint, current }));
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
