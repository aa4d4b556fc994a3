//! Rate limits of this process alone, counted by `governor`.
//!
//! Also what a replica falls back to while the shared store is away. Memory is bounded: a bucket that is full again is
//! no different from one that never was, and such buckets are dropped every so many checks.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use governor::clock::{Clock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use tokio::time::Instant;

use crate::storage::StoreError;
use crate::storage::limits::{Ask, Decision, Quota, RateLimiter};

/// Checks between two looks for buckets that are full again.
const SWEEP_EVERY: u64 = 16_384;
/// Buckets of one quota. Whoever has more addresses than this within a minute is past limiting by address, so then
/// all start anew rather than take all memory.
const MAX_KEYS: usize = 1_000_000;

/// Tokio's clock, which tests pause.
#[derive(Debug, Clone)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

type Buckets = governor::RateLimiter<
    Box<str>,
    DashMapStateStore<Box<str>>,
    TokioClock,
    StateInformationMiddleware,
>;

/// Counts in this process. Must be made inside a runtime.
pub struct LocalRateLimiter {
    clock: TokioClock,
    /// `governor` has one quota for all keys; there are as many quotas as the configuration has limits.
    by_quota: RwLock<HashMap<Quota, Arc<Buckets>>>,
    checks: AtomicU64,
    max_keys: usize,
}

impl Default for LocalRateLimiter {
    fn default() -> Self {
        Self::with_max_keys(MAX_KEYS)
    }
}

impl LocalRateLimiter {
    fn with_max_keys(max_keys: usize) -> Self {
        let clock = TokioClock(Instant::now());
        Self { clock, by_quota: RwLock::default(), checks: AtomicU64::new(0), max_keys }
    }

    /// As [`RateLimiter::check`], at once.
    pub fn check_now(&self, ask: &Ask) -> Decision {
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.sweep();
        }
        let Ask { key, quota, .. } = ask;
        let (interval, limit, weight) = (quota.interval(), quota.burst(), ask.weight());
        let buckets = self.buckets(*quota);
        let cost = NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN);
        match buckets.check_key_n(&key.as_str().into(), cost) {
            Ok(Ok(snapshot)) => {
                let remaining = snapshot.remaining_burst_capacity().min(limit);
                let (reset_after, retry_after) = (interval * (limit - remaining), Duration::ZERO);
                Decision { allowed: true, limit, remaining, reset_after, retry_after }
            }
            Ok(Err(refused)) => {
                let now = self.clock.now();
                // The moment is reckoned from when these buckets were made, on the same clock.
                let until = refused.earliest_possible();
                let retry_after = Duration::from(until.duration_since(now));
                let reset_after = retry_after + interval * (limit - weight);
                let remaining = quota.left(reset_after);
                Decision { allowed: false, limit, remaining, reset_after, retry_after }
            }
            // A weight is never above the burst.
            Err(_) => Decision {
                allowed: false,
                limit,
                remaining: 0,
                reset_after: interval * limit,
                retry_after: interval * limit,
            },
        }
    }

    fn buckets(&self, quota: Quota) -> Arc<Buckets> {
        let known = self.by_quota.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(&quota).map(Arc::clone);
        drop(known);
        if let Some(buckets) = found {
            return buckets;
        }
        let mut known = self.by_quota.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(quota).or_insert_with(|| self.empty(quota)))
    }

    fn empty(&self, quota: Quota) -> Arc<Buckets> {
        let burst = NonZeroU32::new(quota.burst()).unwrap_or(NonZeroU32::MIN);
        // An interval is never zero.
        let governed = governor::Quota::with_period(quota.interval())
            .unwrap_or_else(|| governor::Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let state = DashMapStateStore::default();
        Arc::new(governor::RateLimiter::new(governed, state, self.clock.clone()))
    }

    /// Drops the buckets that are full again; all of a quota if there are too many even so.
    fn sweep(&self) {
        let all: Vec<(Quota, Arc<Buckets>)> = {
            let known = self.by_quota.read().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(quota, buckets)| (*quota, Arc::clone(buckets))).collect()
        };
        for (quota, buckets) in all {
            buckets.retain_recent();
            if buckets.len() > self.max_keys {
                tracing::warn!(keys = buckets.len(), "too many limited keys: all start anew");
                let mut known = self.by_quota.write().unwrap_or_else(PoisonError::into_inner);
                known.insert(quota, self.empty(quota));
            } else if buckets.len() < self.max_keys / 8 {
                buckets.shrink_to_fit();
            }
        }
    }

    /// Buckets that are kept.
    #[cfg(test)]
    fn kept(&self) -> usize {
        let known = self.by_quota.read().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|buckets| buckets.len()).sum()
    }
}

#[async_trait]
impl RateLimiter for LocalRateLimiter {
    async fn check(&self, asks: &[Ask]) -> Result<Vec<Decision>, StoreError> {
        Ok(asks.iter().map(|ask| self.check_now(ask)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(key: usize, quota: Quota) -> Ask {
        Ask::one(format!("key {key}"), quota)
    }

    #[tokio::test(start_paused = true)]
    async fn full_buckets_are_forgotten() {
        let limiter = LocalRateLimiter::default();
        let quota = Quota::per_minute(60);
        for key in 0..10_000 {
            limiter.check_now(&ask(key, quota));
        }
        assert_eq!(limiter.kept(), 10_000);
        tokio::time::advance(Duration::from_secs(30)).await;
        while limiter.checks.load(Ordering::Relaxed) < SWEEP_EVERY {
            assert!(limiter.check_now(&ask(10_000, Quota::per_minute(u32::MAX))).allowed);
        }
        assert!(limiter.kept() <= 1, "{} kept", limiter.kept());
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_is_not_full_outlives_a_sweep() {
        let limiter = LocalRateLimiter::default();
        let quota = Quota::per_minute(2);
        assert!((0..2).all(|_| limiter.check_now(&ask(1, quota)).allowed));
        limiter.sweep();
        assert!(!limiter.check_now(&ask(1, quota)).allowed);
        tokio::time::advance(Duration::from_secs(59)).await;
        limiter.sweep();
        assert!(limiter.check_now(&ask(1, quota)).allowed);
        assert!(!limiter.check_now(&ask(1, quota)).allowed, "half a minute was not full");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_without_number_do_not_take_memory_without_bound() {
        let limiter = LocalRateLimiter::with_max_keys(100);
        let quota = Quota::per_minute(1);
        for key in 0..100 {
            limiter.check_now(&ask(key, quota));
        }
        limiter.sweep();
        assert!(!limiter.check_now(&ask(0, quota)).allowed, "as many as there may be");
        limiter.check_now(&ask(100, quota));
        limiter.sweep();
        assert_eq!(limiter.kept(), 0);
        assert!(limiter.check_now(&ask(0, quota)).allowed);
    }
}
