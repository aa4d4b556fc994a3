//! What every back end of [`CacheStore`] must do.

use std::time::Duration;

use bytes::Bytes;
use whatif::storage::StoreError;
use whatif::storage::cache::{CacheStore, MAX_KEY_BYTES, MAX_TTL, MAX_VALUE_BYTES};

use super::super::support::redis::until;

const LONG: Duration = Duration::from_secs(600);

pub async fn run(cache: &dyn CacheStore) {
    values_are_bytes(cache).await;
    values_run_out(cache).await;
    bounds(cache).await;
    many_keys_at_once(cache).await;
}

async fn get(cache: &dyn CacheStore, key: &str) -> Option<Bytes> {
    cache.get(key).await.unwrap()
}

async fn values_are_bytes(cache: &dyn CacheStore) {
    assert_eq!(get(cache, "a").await, None);
    for value in [&b"one"[..], b"", b"\0\xff\r\n{tag}", "🦉".as_bytes()] {
        cache.put("a", value.to_vec().into(), LONG).await.unwrap();
        assert_eq!(get(cache, "a").await.as_deref(), Some(value), "the newest");
    }
    // Keys are told apart to the byte, whatever stands in them.
    for key in ["A", "a ", "", "{a}", "{b}:a", "a:{a}", "Å", "*"] {
        assert_eq!(get(cache, key).await, None, "{key}");
        cache.put(key, Bytes::from(key.to_owned()), LONG).await.unwrap();
    }
    for key in ["A", "a ", "", "{a}", "{b}:a", "a:{a}", "Å", "*"] {
        assert_eq!(get(cache, key).await.unwrap(), key);
    }
    cache.remove("a").await.unwrap();
    cache.remove("a").await.unwrap();
    assert_eq!((get(cache, "a").await, get(cache, "A").await.is_some()), (None, true));
}

async fn values_run_out(cache: &dyn CacheStore) {
    let put = async |key: &str, ttl| cache.put(key, "x".into(), ttl).await.unwrap();
    put("short", Duration::from_millis(50)).await;
    put("long", LONG).await;
    put("for ever", Duration::MAX).await;
    put("renewed", Duration::from_millis(50)).await;
    put("renewed", LONG).await;
    put("shortened", LONG).await;
    put("shortened", Duration::from_millis(50)).await;
    put("not at all", LONG).await;
    put("not at all", Duration::ZERO).await;
    assert_eq!(get(cache, "not at all").await, None, "nor what was there");
    until("it runs out", async || {
        get(cache, "short").await.is_none() && get(cache, "shortened").await.is_none()
    })
    .await;
    for key in ["long", "for ever", "renewed"] {
        assert!(get(cache, key).await.is_some(), "{key}");
    }
    assert!(MAX_TTL > LONG);
}

async fn bounds(cache: &dyn CacheStore) {
    let largest = Bytes::from(vec![b'x'; MAX_VALUE_BYTES]);
    let longest = "k".repeat(MAX_KEY_BYTES);
    cache.put(&longest, largest.clone(), LONG).await.unwrap();
    assert_eq!(get(cache, &longest).await, Some(largest.clone()));
    let larger = Bytes::from(vec![b'y'; MAX_VALUE_BYTES + 1]);
    let refused = cache.put(&longest, larger, LONG).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
    assert_eq!(get(cache, &longest).await, Some(largest), "as it was");
    let refused = cache.put(&format!("{longest}k"), "x".into(), LONG).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

/// In a cluster they are on all nodes.
async fn many_keys_at_once(cache: &dyn CacheStore) {
    let keys: Vec<_> = (0..200).map(|number| format!("many:{number}")).collect();
    let put = keys.iter().map(|key| cache.put(key, Bytes::from(key.clone()), LONG));
    futures::future::try_join_all(put).await.unwrap();
    let got = futures::future::try_join_all(keys.iter().map(|key| cache.get(key))).await.unwrap();
    assert!(keys.iter().zip(got).all(|(key, got)| got.is_some_and(|got| got == *key)));
}
