//! What may be done beyond what was asked for, as a share of what was: calls made again, calls made twice.
//!
//! A little is saved up, for quiet times and bursts; after that a vendor in trouble gets little more than what readers ask for.

use std::sync::atomic::{AtomicI64, Ordering};

/// The balance counts in thousandths of an extra.
const EXTRA: i64 = 1_000;
/// Most extras that are saved up; a new budget starts with as many.
const SAVED: i64 = 10 * EXTRA;

#[derive(Debug)]
pub struct Budget {
    /// Of an extra, for each that was asked for.
    share: i64,
    balance: AtomicI64,
}

impl Budget {
    /// `share` is from 0, for no extras at all, to 1.
    pub fn new(share: f64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "it is at most a thousand")]
        let share = (share.clamp(0.0, 1.0) * EXTRA as f64) as i64;
        Self { share, balance: AtomicI64::new(if share == 0 { 0 } else { SAVED }) }
    }

    /// One was asked for.
    pub fn deposit(&self) {
        let add = |balance: i64| Some((balance + self.share).min(SAVED));
        let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether there may be one more.
    pub fn withdraw(&self) -> bool {
        let take = |balance: i64| (balance >= EXTRA).then_some(balance - EXTRA);
        self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(share: f64, asked: u32) -> u32 {
        let budget = Budget::new(share);
        let grant = |_: &u32| {
            budget.deposit();
            budget.withdraw()
        };
        (0..asked).filter(grant).count().try_into().expect("a small number")
    }

    #[test]
    fn extras_are_a_share_beyond_what_was_saved() {
        assert!((250..=260).contains(&granted(0.25, 1_000)), "{}", granted(0.25, 1_000));
        assert_eq!(granted(1.0, 1_000), 1_000);
        assert_eq!(granted(0.0, 1_000), 0);
        assert_eq!(granted(0.01, 10), 10, "a new one has some");
    }
}
