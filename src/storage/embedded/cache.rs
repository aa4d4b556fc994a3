//! A cache in memory, for a replica that is alone.
//!
//! Two generations: what is put or found is in the young one; when that has half of the memory it becomes the old one,
//! and what was in the old one and was not found since is dropped as a whole. So what is used stays, nothing is moved
//! about for each read, and what has run out needs nobody to look for it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::storage::StoreError;
use crate::storage::cache::{CacheStore, MAX_TTL, check};

/// What an entry takes beside its key and value, about.
const OVERHEAD: usize = 128;

pub struct LocalCache {
    generations: Mutex<Generations>,
    max_bytes: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Box<str>, Entry>,
    old: HashMap<Box<str>, Entry>,
    young_bytes: usize,
}

struct Entry {
    value: Bytes,
    until: Instant,
}

impl LocalCache {
    /// Takes about `max_bytes` of memory.
    pub fn new(max_bytes: usize) -> Self {
        Self { generations: Mutex::default(), max_bytes }
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.young.remove(key) {
            self.young_bytes -= size(key, &entry);
        }
        self.old.remove(key);
    }

    fn put(&mut self, key: &str, entry: Entry, max_bytes: usize) {
        self.remove(key);
        let size = size(key, &entry);
        if self.young_bytes + size > max_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if size <= max_bytes / 2 {
            self.young.insert(key.into(), entry);
            self.young_bytes += size;
        }
    }
}

fn size(key: &str, entry: &Entry) -> usize {
    key.len() + entry.value.len() + OVERHEAD
}

#[async_trait]
impl CacheStore for LocalCache {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let now = Instant::now();
        let mut generations = self.generations();
        if let Some(entry) = generations.young.get(key) {
            return Ok((entry.until > now).then(|| entry.value.clone()));
        }
        let Some(entry) = generations.old.remove(key).filter(|entry| entry.until > now) else {
            return Ok(None);
        };
        let value = entry.value.clone();
        generations.put(key, entry, self.max_bytes);
        Ok(Some(value))
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        check(key, &value)?;
        let until = Instant::now() + ttl.min(MAX_TTL);
        // A slice of something larger would keep all of it.
        let value = Bytes::copy_from_slice(&value);
        self.generations().put(key, Entry { value, until }, self.max_bytes);
        Ok(())
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.generations().remove(key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    async fn put(cache: &LocalCache, key: usize, bytes: usize) {
        cache.put(&format!("key {key}"), vec![0; bytes].into(), TTL).await.unwrap();
    }

    async fn has(cache: &LocalCache, key: usize) -> bool {
        cache.get(&format!("key {key}")).await.unwrap().is_some()
    }

    fn held(cache: &LocalCache) -> usize {
        let generations = cache.generations();
        let sum = |entries: &HashMap<Box<str>, Entry>| {
            entries.iter().map(|(key, entry)| size(key, entry)).sum::<usize>()
        };
        assert_eq!(generations.young_bytes, sum(&generations.young));
        sum(&generations.young) + sum(&generations.old)
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_what_is_used_stays() {
        let cache = LocalCache::new(100_000);
        put(&cache, 0, 1_000).await;
        for key in 1..1_000 {
            put(&cache, key, 1_000).await;
            assert!(held(&cache) <= 100_000, "{}", held(&cache));
            assert!(has(&cache, 0).await, "used all the time, after {key}");
            assert!(has(&cache, key).await, "put a moment ago");
        }
        assert!(!has(&cache, 1).await);
        assert!(held(&cache) >= 45_000, "room is used: {}", held(&cache));
    }

    #[tokio::test(start_paused = true)]
    async fn replacing_and_removing_give_memory_back() {
        let cache = LocalCache::new(100_000);
        for bytes in [40_000, 10, 30_000] {
            put(&cache, 1, bytes).await;
            assert_eq!(held(&cache), bytes + "key 1".len() + OVERHEAD);
        }
        cache.remove("key 1").await.unwrap();
        assert_eq!(held(&cache), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_at_all_is_not_kept_and_drops_what_it_would_replace() {
        let cache = LocalCache::new(2_000);
        put(&cache, 1, 10).await;
        put(&cache, 1, 1_500).await;
        assert!(!has(&cache, 1).await);
        assert_eq!(held(&cache), 0);
    }
}
