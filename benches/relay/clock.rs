//! One clock for all processes of a run: microseconds since an origin that the harness chose.
//!
//! The wall clock is read once per process, to anchor the monotonic clock; after that only the monotonic clock counts, so a
//! step of the wall clock during a run moves nothing.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

struct Anchor {
    at: Instant,
    micros: u64,
}

static ANCHOR: OnceLock<Anchor> = OnceLock::new();

/// Microseconds since 1970 by the wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "processes share no other clock; the product's injected one stays out of it"
)]
pub fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Sets this process's origin (microseconds since 1970). Called once, first thing.
pub fn start(origin: u64) {
    ANCHOR.get_or_init(|| Anchor {
        at: Instant::now(),
        micros: unix_micros().saturating_sub(origin),
    });
}

/// Microseconds since the run's origin.
pub fn micros() -> u64 {
    let anchor = ANCHOR.get_or_init(|| Anchor { at: Instant::now(), micros: 0 });
    anchor.micros + u64::try_from(anchor.at.elapsed().as_micros()).unwrap_or(u64::MAX)
}
