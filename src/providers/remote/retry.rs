//! When a call that failed before its first text is made again.
//!
//! Waits grow and are jittered; a vendor that names a wait is obeyed, unless it is longer than a reader would wait while
//! others could tell. Retries are paid from a budget that every call adds a share to, so that a vendor in trouble gets
//! little more than what readers ask for.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rand::RngExt;

use super::error::Failure;
use crate::config::Vendor;
use crate::providers::text::ProviderErrorKind;

/// Longest wait between two tries. A vendor that asks for more is left to the caller, who has other providers.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The budget counts in thousandths of a retry.
const RETRY: i64 = 1_000;
/// Most retries that are saved up; a quiet provider starts with as many.
const SAVED: i64 = 10 * RETRY;

pub(super) struct Retries {
    attempts: u32,
    base: Duration,
    /// Of a retry, per call.
    share: i64,
    balance: AtomicI64,
}

impl Retries {
    pub(super) fn new(config: &Vendor) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the share is checked to be at most 1")]
        let share = (config.retry_budget.clamp(0.0, 1.0) * RETRY as f64) as i64;
        Self {
            attempts: config.max_attempts.max(1),
            base: config.retry_base,
            share,
            balance: AtomicI64::new(if share == 0 { 0 } else { SAVED }),
        }
    }

    /// A call begins.
    pub(super) fn deposit(&self) {
        let add = |balance: i64| Some((balance + self.share).min(SAVED));
        let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How long to wait before the next try; `None` if there shall be none. `tries` is how many there were, `left` the time
    /// that the call still has.
    pub(super) fn wait(&self, failure: &Failure, tries: u32, left: Duration) -> Option<Duration> {
        if !failure.again || tries >= self.attempts {
            return None;
        }
        let longest = self.base.saturating_mul(1 << tries.min(8)).min(LONGEST_WAIT);
        let jittered = longest.mul_f64(rand::rng().random_range(0.5..=1.0));
        let wait = match failure.error.kind {
            ProviderErrorKind::RateLimited { retry_after: Some(asked) }
            | ProviderErrorKind::Overloaded { retry_after: Some(asked) } => {
                (asked <= LONGEST_WAIT).then(|| asked + jittered / 10)
            }
            _ => Some(jittered),
        };
        wait.filter(|wait| *wait < left).filter(|_| self.withdraw())
    }

    fn withdraw(&self) -> bool {
        let take = |balance: i64| (balance >= RETRY).then_some(balance - RETRY);
        let paid = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if !paid {
            metrics::counter!("whatif_text_retries_refused_total").increment(1);
        }
        paid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;
    use crate::providers::text::ProviderError;

    const LEFT: Duration = Duration::from_secs(60);

    fn retries(attempts: u32, budget: f64) -> Retries {
        let defaults = Vendor::of(Kind::OpenAi);
        Retries::new(&Vendor { max_attempts: attempts, retry_budget: budget, ..defaults })
    }

    fn failure(kind: ProviderErrorKind) -> Failure {
        ProviderError::new(kind, "").into()
    }

    #[test]
    fn waits_grow_stay_bounded_and_follow_the_vendor() {
        let retries = retries(u32::MAX, 1.0);
        let network = failure(ProviderErrorKind::Network);
        for (tries, longest_ms) in [(1, 500), (2, 1_000), (9, 5_000), (u32::MAX - 1, 5_000)] {
            let wait = retries.wait(&network, tries, LEFT).expect("another try").as_millis();
            assert!((longest_ms / 2..=longest_ms).contains(&wait), "{tries}: {wait}");
        }
        let limited = |secs| {
            let retry_after = Some(Duration::from_secs(secs));
            retries.wait(&failure(ProviderErrorKind::RateLimited { retry_after }), 1, LEFT)
        };
        assert!(limited(2).is_some_and(|wait| wait >= Duration::from_secs(2)));
        assert_eq!(limited(60), None);
        assert_eq!(retries.wait(&failure(ProviderErrorKind::Auth), 1, LEFT), None);
        assert_eq!(retries.wait(&network, 1, Duration::from_millis(100)), None, "too late");
    }

    #[test]
    fn retries_are_a_share_of_the_calls_beyond_what_was_saved() {
        let retries = retries(2, 0.25);
        let network = failure(ProviderErrorKind::Network);
        let mut made = 0;
        for _ in 0..1_000 {
            retries.deposit();
            made += u32::from(retries.wait(&network, 1, LEFT).is_some());
        }
        assert!((250..=260).contains(&made), "{made}");
        assert_eq!(retries.wait(&network, 2, LEFT), None, "both attempts are made");
    }

    #[test]
    fn without_a_budget_there_is_no_retry() {
        let retries = retries(3, 0.0);
        retries.deposit();
        assert_eq!(retries.wait(&failure(ProviderErrorKind::Network), 1, LEFT), None);
    }
}
