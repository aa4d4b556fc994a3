//! Time as a dependency, so that rules about time can be tested without waiting.
//!
//! Whoever needs the wall clock is handed a [`Clock`]; `clippy.toml` bans asking for it anywhere else.
//! Durations and deadlines use `tokio::time`, which tests pause.

use jiff::Timestamp;

/// A source of the current time.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    System,
    /// Starts at a given moment and advances with tokio's clock, paused or not.
    Tokio {
        start: Timestamp,
        origin: tokio::time::Instant,
    },
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `start` now and moves with tokio's (pausable) clock.
    pub fn starting_at(start: Timestamp) -> Self {
        Self(Source::Tokio { start, origin: tokio::time::Instant::now() })
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Tokio { start, origin } => *start + origin.elapsed(),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now().as_millisecond()
    }
}
