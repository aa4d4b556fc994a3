//! A place for what can be had again: bytes under a key, for a while. Shared by all replicas where the store is.
//!
//! Whatever is put here may be gone the next moment. Called through `actors/cache.rs`, which waits for no store longer
//! than a moment and takes a failure for a miss.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::StoreError;

/// Longest key.
pub const MAX_KEY_BYTES: usize = 256;
/// Largest value: a cache shares its memory, and in Redis its server, with what must not be lost.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Longest that anything is kept, whatever is asked for.
pub const MAX_TTL: Duration = Duration::from_secs(24 * 3_600);

/// # Errors
/// Every method: [`StoreError::Unavailable`]; [`StoreError::TooLarge`] for a key or value beyond the bounds above, with
/// nothing changed.
#[async_trait]
pub trait CacheStore: Send + Sync + 'static {
    /// The value, if it is still kept.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Keeps the value for `ttl` at most, in place of an older one. Without any `ttl` nothing is kept.
    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError>;

    /// Forgets the value. When this returns `Ok` nobody gets it any more who begins to ask then.
    async fn remove(&self, key: &str) -> Result<(), StoreError>;
}

/// What every back end refuses.
pub(super) fn check(key: &str, value: &[u8]) -> Result<(), StoreError> {
    for (size_bytes, max_bytes) in [(key.len(), MAX_KEY_BYTES), (value.len(), MAX_VALUE_BYTES)] {
        if size_bytes > max_bytes {
            return Err(StoreError::TooLarge { size_bytes, max_bytes });
        }
    }
    Ok(())
}
