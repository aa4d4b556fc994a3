//! On a paused clock, on a store in memory that can be slow or away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::*;
use crate::error::Code;
use crate::storage::embedded::LocalCache;

const TTL: Duration = Duration::from_secs(60);

struct Store {
    kept: LocalCache,
    away: AtomicBool,
    /// Milliseconds that each call takes.
    slow: AtomicU64,
    calls: AtomicU64,
}

impl Store {
    async fn reach(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(self.slow.load(Ordering::Relaxed))).await;
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("gone".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl CacheStore for Store {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.reach().await?;
        self.kept.get(key).await
    }

    async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
        self.reach().await?;
        self.kept.put(key, value, ttl).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.reach().await?;
        self.kept.remove(key).await
    }
}

fn cache() -> (Arc<Store>, CacheHandle) {
    let store = Arc::new(Store {
        kept: LocalCache::new(1_000_000),
        away: AtomicBool::new(false),
        slow: AtomicU64::new(0),
        calls: AtomicU64::new(0),
    });
    let held = Arc::clone(&store) as Arc<dyn CacheStore>;
    (store, CacheHandle::new(&config::Cache::default(), held))
}

/// A source that counts how often it is asked.
#[derive(Clone, Default)]
struct Source(Arc<AtomicU64>);

impl Source {
    fn asked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The number of the asking, after a while.
    fn answer(&self, takes: Duration) -> impl Future<Output = Outcome> + Send + use<> {
        let asked = Arc::clone(&self.0);
        async move {
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            sleep(takes).await;
            Ok(Bytes::from(number.to_string()))
        }
    }
}

const SOON: Duration = Duration::from_millis(20);

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_not_made_again_until_it_runs_out_or_is_removed() {
    let (_, cache) = cache();
    let source = Source::default();
    let get = || cache.get_or_fill("a", TTL, source.answer(SOON));
    assert_eq!((get().await.unwrap(), get().await.unwrap()), ("1".into(), "1".into()));
    sleep(TTL).await;
    assert_eq!(get().await.unwrap(), "2");
    cache.remove("a").await;
    assert_eq!(get().await.unwrap(), "3");
    assert_eq!(cache.get_or_fill("b", TTL, source.answer(SOON)).await.unwrap(), "4");
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_it_is_made_once() {
    let (store, cache) = cache();
    let source = Source::default();
    let asking = (0..1_000).map(|_| cache.get_or_fill("a", TTL, source.answer(SOON)));
    let got = join_all(asking).await;
    assert!(got.iter().all(|got| got.as_ref().unwrap() == "1"));
    assert_eq!((source.asked(), store.calls.load(Ordering::Relaxed)), (1, 2), "a get and a put");
    assert!(cache.0.flights().under_way.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_to_all_who_wait_and_not_kept() {
    let (_, cache) = cache();
    let source = Source::default();
    let failing = || {
        let asked = source.answer(SOON);
        async move {
            asked.await?;
            Err(ServiceError::scenario_not_found())
        }
    };
    let got = join_all((0..10).map(|_| cache.get_or_fill("a", TTL, failing()))).await;
    assert!(got.iter().all(|got| got.as_ref().unwrap_err().code == Code::ScenarioNotFound));
    assert_eq!(source.asked(), 1);
    assert_eq!(cache.get_or_fill("a", TTL, source.answer(SOON)).await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn whoever_gives_up_takes_nobody_along_and_nothing_runs_for_nobody() {
    let (_, cache) = cache();
    let source = Source::default();
    let first = cache.get_or_fill("a", TTL, source.answer(SOON * 10));
    let second = cache.get_or_fill("a", TTL, source.answer(SOON * 10));
    let (first, second) = tokio::join!(timeout(SOON, first), second);
    assert!(first.is_err());
    assert_eq!((second.unwrap(), source.asked()), (Bytes::from("1"), 1));

    let (went_on, goes_on) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (seen, wait) = (Arc::clone(&went_on), Arc::clone(&goes_on));
    let nobodys = async move {
        wait.notified().await;
        seen.store(true, Ordering::Relaxed);
        Ok(Bytes::new())
    };
    assert!(timeout(SOON, cache.get_or_fill("b", TTL, nobodys)).await.is_err());
    assert!(cache.0.flights().under_way.is_empty(), "its key is free again");
    goes_on.notify_one();
    sleep(SOON).await;
    assert!(!went_on.load(Ordering::Relaxed));
    assert_eq!(cache.get_or_fill("b", TTL, source.answer(SOON)).await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn what_changed_while_it_was_made_is_not_kept() {
    let (_, cache) = cache();
    let source = Source::default();
    let old = cache.get_or_fill("a", TTL, source.answer(SOON * 2));
    let change = async {
        sleep(SOON).await;
        cache.remove("a").await;
        // Whoever asks after the change does not get what was begun before it.
        cache.get_or_fill("a", TTL, source.answer(SOON * 10)).await
    };
    let (old, new) = tokio::join!(old, change);
    assert_eq!((old.unwrap(), new.unwrap()), (Bytes::from("1"), Bytes::from("2")));
    assert_eq!(cache.get_or_fill("a", TTL, source.answer(SOON)).await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_is_a_miss_after_a_moment_and_then_left_alone() {
    let (store, cache) = cache();
    let source = Source::default();
    store.slow.store(30_000, Ordering::Relaxed);
    let since = Instant::now();
    assert_eq!(cache.get_or_fill("a", TTL, source.answer(SOON)).await.unwrap(), "1");
    let took = since.elapsed();
    assert_eq!(took, config::Cache::default().store_timeout + SOON, "no wait for the put");
    let since = Instant::now();
    assert_eq!(cache.get_or_fill("a", TTL, source.answer(SOON)).await.unwrap(), "2");
    assert_eq!(since.elapsed(), SOON);
    let calls = store.calls.load(Ordering::Relaxed);
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        cache.get_or_fill("a", TTL, source.answer(Duration::ZERO)).await.unwrap();
    }
    let calls = store.calls.load(Ordering::Relaxed) - calls;
    assert!((8..=20).contains(&calls), "{calls} calls in a minute");

    store.slow.store(0, Ordering::Relaxed);
    sleep(LONGEST_PAUSE).await;
    let made = source.asked();
    for _ in 0..3 {
        cache.get_or_fill("a", TTL, source.answer(SOON)).await.unwrap();
    }
    assert_eq!(source.asked(), made + 1, "used again");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_fails_nobody() {
    let (store, cache) = cache();
    let source = Source::default();
    store.away.store(true, Ordering::Relaxed);
    for number in 1..=3 {
        let got = cache.get_or_fill("a", TTL, source.answer(SOON)).await.unwrap();
        assert_eq!(got, number.to_string());
        cache.remove("a").await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_to_keep_is_given_all_the_same() {
    let (store, cache) = cache();
    let large = Bytes::from(vec![7; crate::storage::cache::MAX_VALUE_BYTES + 1]);
    for _ in 0..2 {
        let fill = std::future::ready(Ok(large.clone()));
        assert_eq!(cache.get_or_fill("a", TTL, fill).await.unwrap(), large);
    }
    assert_eq!(store.calls.load(Ordering::Relaxed), 4, "and the store is none the worse for it");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_given_up() {
    let (_, cache) = cache();
    let hanging = || cache.get_or_fill("a", TTL, std::future::pending());
    let (one, other) = tokio::join!(hanging(), hanging());
    assert_eq!((one.unwrap_err().code, other.unwrap_err().code), (Code::Timeout, Code::Timeout));
    assert_eq!(hanging().await.unwrap_err().code, Code::Timeout, "the key is free again");
}
