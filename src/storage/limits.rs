//! Rate limits: how often something may happen under a key, counted over all replicas where the store is shared.
//!
//! The rule is GCRA (a leaky bucket that needs one number per key): a bucket holds `burst`, what is taken comes back at
//! an even pace, and what is refused takes nothing. Called by the gateway on every request, so a check is one round
//! trip at most, however many keys it asks about. Back ends never invent a refusal: when they cannot tell, they say so
//! and the caller decides.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// How often, and how much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    /// Time in which one unit comes back; whole microseconds, at least one.
    interval: Duration,
    burst: u32,
}

impl Quota {
    /// `count` in each `period`, `burst` of them at once. Zeros count as one.
    pub fn new(count: u32, period: Duration, burst: u32) -> Self {
        let micros = period.as_micros() / u128::from(count.max(1));
        let interval = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).max(1));
        Self { interval, burst: burst.max(1) }
    }

    /// `count` a minute, all of them at once if they have gathered.
    pub fn per_minute(count: u32) -> Self {
        Self::new(count, Duration::from_secs(60), count)
    }

    /// Time in which one unit comes back.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The most that can be taken at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// What is left when the bucket will be full again after `until_full`.
    pub fn left(&self, until_full: Duration) -> u32 {
        let taken = until_full.as_nanos().div_ceil(self.interval.as_nanos());
        self.burst.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }
}

/// One bucket that is asked for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Names the bucket. Keys are kept for as long as their bucket is not full, so nothing personal belongs in them.
    pub key: String,
    pub quota: Quota,
    /// More than the burst counts as the whole burst: what is dear stays possible and takes everything.
    pub cost: u32,
}

impl Ask {
    /// Asks for one unit.
    pub fn one(key: String, quota: Quota) -> Self {
        Self { key, quota, cost: 1 }
    }

    /// What is really taken.
    pub fn weight(&self) -> u32 {
        self.cost.clamp(1, self.quota.burst)
    }
}

/// What a bucket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// The bucket's size.
    pub limit: u32,
    /// What could be taken now, after this.
    pub remaining: u32,
    /// Until the bucket is full again.
    pub reset_after: Duration,
    /// Until the same would be allowed; zero if it was.
    pub retry_after: Duration,
}

/// Counts over all who ask the same store.
#[async_trait]
pub trait RateLimiter: Send + Sync + 'static {
    /// Decides on each of `asks` by itself, in their order: one bucket's refusal gives nothing back to the others.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]. Something may have been taken nevertheless.
    async fn check(&self, asks: &[Ask]) -> Result<Vec<Decision>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_never_nothing() {
        let none = Quota::new(0, Duration::ZERO, 0);
        assert_eq!((none.interval(), none.burst()), (Duration::from_micros(1), 1));
        let minute = Quota::per_minute(1_000);
        assert_eq!((minute.interval(), minute.burst()), (Duration::from_millis(60), 1_000));
        assert_eq!(Quota::per_minute(u32::MAX).interval(), Duration::from_micros(1));
    }

    #[test]
    fn what_is_left_is_whole_units() {
        let quota = Quota::new(10, Duration::from_secs(10), 5);
        for (until_full_ms, left) in
            [(0, 5), (1, 4), (1_000, 4), (1_001, 3), (5_000, 0), (9_000, 0)]
        {
            assert_eq!(
                quota.left(Duration::from_millis(until_full_ms)),
                left,
                "{until_full_ms} ms"
            );
        }
    }

    #[test]
    fn what_is_dearer_than_the_burst_takes_everything() {
        let quota = Quota::per_minute(5);
        let ask = |cost| Ask { key: String::new(), quota, cost };
        assert_eq!([0, 1, 5, 6].map(|cost| ask(cost).weight()), [1, 1, 5, 5]);
    }
}
