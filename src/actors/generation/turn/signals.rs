//! How a running turn is told to end, and how it tells that it does.
//!
//! A turn looks at its signals whenever it wakes, which is often: a look is one atomic read, and one waker serves all
//! of them, since only the turn's own task ever waits.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

const STOP: u8 = 1;
const HALT: u8 = 2;
const OVER: u8 = 4;

/// Shared by a turn and its session.
#[derive(Clone, Default)]
pub struct Signals(Arc<Shared>);

#[derive(Default)]
struct Shared {
    said: AtomicU8,
    /// The turn's task.
    turn: AtomicWaker,
}

/// Why a turn is to end before its text does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    Stopped,
    Halted,
}

impl Signals {
    /// The reader's `stop`: end the scene here and keep its text.
    pub fn stop(&self) {
        self.say(STOP);
    }

    /// Leave the turn open at the log's head for whoever comes next.
    pub fn halt(&self) {
        self.say(HALT);
    }

    /// Said by the turn before its last event is shown or its command is refused: from then on a command waits for its
    /// end instead of being refused, since its sender may know that nothing runs any more.
    pub fn end(&self) {
        self.say(OVER);
    }

    pub fn is_halted(&self) -> bool {
        self.0.said.load(Ordering::Acquire) & HALT != 0
    }

    pub fn is_over(&self) -> bool {
        self.0.said.load(Ordering::Acquire) & OVER != 0
    }

    /// Ready once the turn is stopped or halted. What the reader was promised comes first: a stop is not left to
    /// another owner. Only the turn's own task may wait.
    pub fn poll_interrupted(&self, context: &mut Context<'_>) -> Poll<Interruption> {
        // Registered before looking: what is said after the look wakes.
        self.0.turn.register(context.waker());
        match self.0.said.load(Ordering::Acquire) {
            said if said & STOP != 0 => Poll::Ready(Interruption::Stopped),
            said if said & HALT != 0 => Poll::Ready(Interruption::Halted),
            _ => Poll::Pending,
        }
    }

    pub async fn interrupted(&self) -> Interruption {
        poll_fn(|context| self.poll_interrupted(context)).await
    }

    /// As [`Signals::interrupted`], for the parts of a turn that a stop does not cut short.
    pub async fn halted(&self) {
        poll_fn(|context| {
            self.0.turn.register(context.waker());
            if self.is_halted() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn say(&self, signal: u8) {
        self.0.said.fetch_or(signal, Ordering::AcqRel);
        self.0.turn.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiting_turn_is_woken_and_a_stop_comes_before_a_halt() {
        let signals = Signals::default();
        let waiting = signals.clone();
        let turn = tokio::spawn(async move { waiting.interrupted().await });
        tokio::task::yield_now().await;
        signals.end();
        assert!(!turn.is_finished() && signals.is_over());
        signals.halt();
        assert_eq!(turn.await.unwrap(), Interruption::Halted);
        signals.halted().await;
        signals.stop();
        assert_eq!(signals.interrupted().await, Interruption::Stopped);
        assert!(signals.is_halted());
    }
}
