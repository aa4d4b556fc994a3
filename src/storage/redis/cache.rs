//! The cache that all replicas share: a string per key, which Redis forgets by itself.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Failure, Redis};
use crate::storage::StoreError;
use crate::storage::cache::{CacheStore, MAX_TTL, check};

pub struct RedisCache {
    redis: Redis,
}

impl RedisCache {
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn key(&self, key: &str) -> String {
        self.redis.key(format_args!("cache:{key}"))
    }
}

fn unavailable(failure: Failure) -> StoreError {
    StoreError::Unavailable(failure.to_string())
}

#[async_trait]
impl CacheStore for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let found: Option<Vec<u8>> =
            self.redis.query(redis::cmd("GET").arg(self.key(key))).await.map_err(unavailable)?;
        Ok(found.map(Bytes::from))
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        check(key, &value)?;
        let millis = ttl.min(MAX_TTL).as_millis() as u64;
        if millis == 0 {
            return self.remove(key).await;
        }
        let mut set = redis::cmd("SET");
        set.arg(self.key(key)).arg(&value[..]).arg("PX").arg(millis);
        self.redis.query(&set).await.map_err(unavailable)
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.redis.query(redis::cmd("DEL").arg(self.key(key))).await.map_err(unavailable)
    }
}
