//! When a call that failed before its first text is made again.
//!
//! Waits grow and are jittered; a vendor that names a wait is obeyed, unless it is longer than a reader would wait while
//! others could tell. Retries are paid from a [`Budget`].

use std::time::Duration;

use rand::RngExt;

use super::error::Failure;
use crate::config::Vendor;
use crate::providers::budget::Budget;
use crate::providers::text::ProviderErrorKind;

/// Longest wait between two tries. A vendor that asks for more is left to the caller, who has other providers.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
pub(super) struct Retries {
    attempts: u32,
    base: Duration,
    budget: Budget,
}

impl Retries {
    pub(super) fn new(config: &Vendor) -> Self {
        Self {
            attempts: config.max_attempts.max(1),
            base: config.retry_base,
            budget: Budget::new(config.retry_budget),
        }
    }

    /// A call begins.
    pub(super) fn deposit(&self) {
        self.budget.deposit();
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
        let paid = self.budget.withdraw();
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
    fn without_a_budget_there_is_no_retry() {
        let retries = retries(3, 0.0);
        retries.deposit();
        assert_eq!(retries.wait(&failure(ProviderErrorKind::Network), 1, LEFT), None);
    }
}
