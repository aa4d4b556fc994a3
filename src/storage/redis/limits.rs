//! Rate limits that all replicas count together.
//!
//! A bucket is one number, the moment at which it is full again, changed by one script on Redis's own clock. It expires
//! at that very moment. Buckets asked about together may lie on different nodes: they are asked at the same time.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;

use super::{Redis, Script};
use crate::storage::StoreError;
use crate::storage::limits::{Ask, Decision, RateLimiter};

/// Bucket; microseconds for a unit, size, cost -> whether it was taken, and the microseconds until it is full and until
/// it would be taken. A moment that cannot be (the clock was set back, or the bucket was larger once) counts as the
/// latest that can.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000000 + time[2]
        local unit, size, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
        full = math.min(math.max(full, now), now + unit * size)
        local later = full + unit * cost
        local wait = later - unit * size - now
        if wait > 0 then
            return {0, full - now, wait}
        end
        redis.call('SET', KEYS[1], string.format('%.0f', later), 'PX', math.ceil((later - now) / 1000))
        return {1, later - now, 0}
        ",
    )
});

pub struct RedisRateLimiter {
    redis: Redis,
}

impl RedisRateLimiter {
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    async fn take(&self, ask: &Ask) -> Result<Decision, StoreError> {
        let quota = ask.quota;
        let key = self.redis.key(format_args!("limit:{}", ask.key));
        let unit = u64::try_from(quota.interval().as_micros()).unwrap_or(u64::MAX);
        let call = TAKE.on(&[key]).arg(unit).arg(quota.burst()).arg(ask.weight());
        let answer = call.run(&self.redis).await;
        let (taken, until_full, wait): (bool, u64, u64) =
            answer.map_err(|failure| StoreError::Unavailable(failure.to_string()))?;
        let reset_after = Duration::from_micros(until_full);
        Ok(Decision {
            allowed: taken,
            limit: quota.burst(),
            remaining: quota.left(reset_after),
            reset_after,
            retry_after: Duration::from_micros(wait),
        })
    }
}

#[async_trait]
impl RateLimiter for RedisRateLimiter {
    async fn check(&self, asks: &[Ask]) -> Result<Vec<Decision>, StoreError> {
        try_join_all(asks.iter().map(|ask| self.take(ask))).await
    }
}
