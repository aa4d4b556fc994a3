//! Between an answer that is being made and whoever reads it: a short queue. Its end is the answer's end.

use std::time::Duration;

use tokio::sync::mpsc;

use super::event::Event;
use crate::error::ServiceError;

/// Events made ahead of their reader; more are not made until some are read.
const AHEAD: usize = 64;
/// How long the last event waits for a reader that is behind.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Nobody reads any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

pub struct Outlet(mpsc::Sender<Event>);

/// An answer as it comes. Dropping it ends the answer: what runs is cancelled and what was paid is settled.
pub struct Answer {
    events: mpsc::Receiver<Event>,
    ended: bool,
}

pub fn channel() -> (Outlet, Answer) {
    let (sender, events) = mpsc::channel(AHEAD);
    (Outlet(sender), Answer { events, ended: false })
}

impl Outlet {
    pub async fn send(&self, event: Event) -> Result<(), Gone> {
        self.0.send(event).await.map_err(|_| Gone)
    }

    /// Ends it with this event, unless the reader does not take it.
    pub async fn end(self, last: Event) {
        let _ = self.0.send_timeout(last, LAST_WORDS).await;
    }

    /// Until nobody reads any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Answer {
    /// The next events, at least one; nothing after the last. The last one is always `chat.done` or `chat.failed`.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        if self.ended {
            return None;
        }
        let mut events = Vec::new();
        if self.events.recv_many(&mut events, AHEAD).await == 0 {
            // Its task died.
            events.push(ServiceError::internal().into());
        }
        self.ended = events.iter().any(Event::is_last);
        Some(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(off: usize) -> Event {
        Event::Delta { off, text: "x".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_always_has_one_end() {
        let (out, mut answer) = channel();
        out.send(delta(0)).await.unwrap();
        out.send(delta(1)).await.unwrap();
        assert_eq!(answer.next().await, Some(vec![delta(0), delta(1)]));
        // Its task dies.
        drop(out);
        let last = answer.next().await.unwrap();
        assert!(matches!(last[..], [Event::Failed { error: "internal", retryable: true, .. }]));
        assert_eq!(answer.next().await, None);

        let (out, mut answer) = channel();
        out.end(ServiceError::timeout("x").into()).await;
        assert!(matches!(
            answer.next().await.unwrap()[..],
            [Event::Failed { error: "timeout", .. }]
        ));
        assert_eq!(answer.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_made_far_ahead_of_a_slow_reader_or_for_one_who_left() {
        let (out, mut answer) = channel();
        let made = tokio::spawn(async move {
            let mut made = 0;
            while out.send(delta(made)).await.is_ok() {
                made += 1;
            }
            made
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(answer.next().await.map(|events| events.len()), Some(AHEAD));
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(answer);
        assert_eq!(made.await.unwrap(), 2 * AHEAD);
    }
}
