//! When something is due: a hello, a ping, or the socket's end.

use axum::extract::ws::Message;
use tokio::time::Instant;

use super::{Connection, End, Writing};
use crate::http::ws::frames::Close;

/// Answers that may wait for the network; with more of them the client is not heard.
const MAX_UNSENT: usize = 64;

/// When something is due.
pub(super) struct Times {
    pub opened: Instant,
    pub heard: Instant,
    pub pinged: Instant,
    /// Since when the reader has been behind.
    pub behind: Option<Instant>,
    /// When the socket is sent away.
    pub leave: Option<Instant>,
    pub token: Option<Instant>,
}

impl Connection {
    /// Whether the next frame is read: not while a command runs, nor while answers wait for a client to take them.
    pub(super) fn listens(&self) -> bool {
        self.job.is_none() && self.outbox.len() < MAX_UNSENT
    }

    /// The next moment at which something may have to be done.
    pub(super) fn due(&self) -> Instant {
        let limits = &self.state.config.sockets;
        let hello = self.caller.is_none().then_some(self.times.opened + limits.hello_timeout);
        let ping = self.times.pinged.max(self.times.heard) + limits.ping_interval;
        let dead = self.listens().then_some(self.times.heard + limits.pong_timeout);
        let slow = self.times.behind.map(|since| since + limits.slow_timeout);
        [hello, dead, slow, self.times.leave, self.times.token]
            .into_iter()
            .flatten()
            .fold(ping, Instant::min)
    }

    pub(super) fn time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let limits = &self.state.config.sockets;
        if self.caller.is_none() && now >= self.times.opened + limits.hello_timeout {
            return Err(Some(Close::HelloTimeout));
        }
        // Silence means something only where somebody listens.
        if self.listens() && now >= self.times.heard + limits.pong_timeout {
            return Err(Some(Close::NoPong));
        }
        if self.times.behind.is_some_and(|since| now >= since + limits.slow_timeout) {
            return Err(Some(Close::SlowConsumer));
        }
        if self.times.leave.is_some_and(|leave| now >= leave) {
            return Err(Some(Close::GoingAway));
        }
        if self.times.token.is_some_and(|token| now >= token) {
            return Err(Some(Close::TokenExpired));
        }
        if now >= self.times.pinged.max(self.times.heard) + limits.ping_interval {
            self.times.pinged = now;
            // A ping that finds the buffer full waits for the next round.
            if self.writing == Writing::Idle {
                self.put(Message::Ping(bytes::Bytes::new())).map_err(|_| None)?;
            }
        }
        Ok(())
    }
}
