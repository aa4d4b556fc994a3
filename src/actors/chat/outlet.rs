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
