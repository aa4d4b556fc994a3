//! One scene as one client receives it: checked, counted, timed. The same for every relay.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stats::Stats;
use crate::clock;
use crate::scene::Verifier;

/// The client runs on one thread, so this lock is never waited for.
pub type Shared = Arc<Mutex<Stats>>;

pub fn lock(stats: &Shared) -> MutexGuard<'_, Stats> {
    stats.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Turn {
    stats: Shared,
    verifier: Verifier,
    asked: u64,
}

impl Turn {
    /// Begins now: the time to first text counts from here.
    pub fn begin(stats: &Shared, tokens: u32) -> Self {
        Self { stats: Arc::clone(stats), verifier: Verifier::new(tokens), asked: clock::micros() }
    }

    /// Counts one message of the stream.
    pub fn frame(&self, bytes: usize) {
        let mut stats = lock(&self.stats);
        stats.frames += 1;
        stats.bytes += bytes as u64;
    }

    pub fn text(&mut self, text: &str) -> anyhow::Result<()> {
        let now = clock::micros();
        let mut stats = lock(&self.stats);
        let before = self.verifier.words();
        let read = self
            .verifier
            .push(text, |sent| stats.latency.record((now % 1_000_000_000).saturating_sub(sent)));
        let words = self.verifier.words();
        if before == 0 && words > 0 {
            stats.first_text.record(now.saturating_sub(self.asked));
        }
        stats.tokens += u64::from(words - before);
        Ok(read?)
    }

    pub fn finish(&self, trailer: &str) -> anyhow::Result<()> {
        self.verifier.finish(trailer)?;
        lock(&self.stats).whole += 1;
        Ok(())
    }
}
