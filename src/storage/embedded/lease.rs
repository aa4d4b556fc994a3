//! A lease as the embedded logs keep it: in memory only, judged by tokio's clock.
//!
//! The moments come from the caller's side of a store (inside its runtime, where tests pause the clock), never from
//! a store's own thread.

use std::time::Duration;

use tokio::time::Instant;

use crate::storage::log::Fence;

/// The newest claim of a log that was not given up. It stays the newest after it has run out, until the next claim.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) fence: Fence,
    holder: Box<str>,
    expires: Instant,
}

impl Lease {
    pub(super) fn new(fence: Fence, holder: &str, now: Instant, ttl: Duration) -> Self {
        let mut lease = Self { fence, holder: holder.into(), expires: now };
        lease.extend(now, ttl);
        lease
    }

    pub(super) fn extend(&mut self, now: Instant, ttl: Duration) {
        // A ttl past the end of the clock is as good as a century.
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
        self.expires = now + ttl.min(CENTURY);
    }

    pub(super) fn is_live(&self, now: Instant) -> bool {
        self.expires > now
    }

    /// Who else holds it, and for how long: what stands against a claim by `holder`.
    pub(super) fn held_against(&self, holder: &str, now: Instant) -> Option<(String, Duration)> {
        (self.is_live(now) && *self.holder != *holder)
            .then(|| (self.holder.to_string(), self.expires - now))
    }
}
