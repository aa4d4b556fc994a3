//! What every [`RateLimiter`] must do, whatever counts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;
use whatif::storage::StoreError;
use whatif::storage::embedded::LocalRateLimiter;
use whatif::storage::limits::{Ask, Decision, Quota, RateLimiter};
use whatif::storage::redis::RedisRateLimiter;

use super::{cluster, connect, single};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn the_local_limiter_keeps_the_contract() {
    contract(Arc::new(LocalRateLimiter::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    contract(Arc::new(RedisRateLimiter::new(connect(&single()).await))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_keeps_the_contract() {
    contract(Arc::new(RedisRateLimiter::new(connect(&cluster()).await))).await;
}

async fn contract(limiter: Arc<dyn RateLimiter>) {
    counts_are_exact_under_concurrency(&limiter).await;
    a_burst_then_the_pace(&*limiter).await;
    what_is_taken_comes_back(&*limiter).await;
    costs(&*limiter).await;
    each_bucket_decides_by_itself(&*limiter).await;
}

fn key() -> String {
    Uuid::new_v4().to_string()
}

/// So slow that nothing comes back while a test runs.
fn slow(burst: u32) -> Quota {
    Quota::new(1, HOUR, burst)
}

async fn take(limiter: &dyn RateLimiter, key: &str, quota: Quota, cost: u32) -> Decision {
    let decisions = limiter.check(&[Ask { key: key.into(), quota, cost }]).await.unwrap();
    assert_eq!(decisions.len(), 1);
    decisions[0]
}

async fn counts_are_exact_under_concurrency(limiter: &Arc<dyn RateLimiter>) {
    let (one, other) = (key(), key());
    let tasks: Vec<_> = (0..300)
        .map(|number| {
            let limiter = Arc::clone(limiter);
            let key = if number % 3 == 0 { other.clone() } else { one.clone() };
            tokio::spawn(async move { (number % 3 == 0, take(&*limiter, &key, slow(50), 1).await) })
        })
        .collect();
    let mut allowed = [0, 0];
    let mut left = Vec::new();
    for task in tasks {
        let (is_other, decision) = task.await.unwrap();
        allowed[usize::from(is_other)] += u32::from(decision.allowed);
        if decision.allowed && !is_other {
            left.push(decision.remaining);
        }
    }
    assert_eq!(allowed, [50, 50]);
    left.sort_unstable();
    assert_eq!(left, (0..50).collect::<Vec<_>>(), "each was told another number");
}

async fn a_burst_then_the_pace(limiter: &dyn RateLimiter) {
    let (key, quota) = (key(), slow(5));
    for taken in 1..=5 {
        let decision = take(limiter, &key, quota, 1).await;
        let Decision { allowed, limit, remaining, reset_after, retry_after } = decision;
        assert_eq!((allowed, limit, remaining), (true, 5, 5 - taken), "{decision:?}");
        assert!(reset_after <= HOUR * taken && reset_after > HOUR * (taken - 1), "{decision:?}");
        assert_eq!(retry_after, Duration::ZERO);
    }
    for _ in 0..3 {
        let decision = take(limiter, &key, quota, 1).await;
        assert_eq!((decision.allowed, decision.remaining), (false, 0), "{decision:?}");
        let within =
            |time: Duration, hours: u32| time <= HOUR * hours && time > HOUR * hours / 10 * 9;
        assert!(within(decision.retry_after, 1), "{decision:?}");
        assert!(within(decision.reset_after, 5), "refusals take nothing: {decision:?}");
    }
}

async fn what_is_taken_comes_back(limiter: &dyn RateLimiter) {
    let key = key();
    let quota = Quota::new(1, Duration::from_secs(2), 4);
    assert!(take(limiter, &key, quota, 4).await.allowed);
    let since = Instant::now();
    let refused = take(limiter, &key, quota, 1).await;
    assert!(!refused.allowed && refused.retry_after <= quota.interval(), "{refused:?}");
    // Too early is refused as before; then it is as was said.
    let again = take(limiter, &key, quota, 1).await;
    assert!(again.retry_after <= refused.retry_after, "{again:?}");
    sleep(again.retry_after + Duration::from_millis(2)).await;
    assert!(take(limiter, &key, quota, 1).await.allowed);
    assert!(since.elapsed() + Duration::from_millis(500) >= quota.interval());
    let more = take(limiter, &key, quota, 4).await;
    assert!(!more.allowed && more.remaining < 4, "one came back, not all: {more:?}");
}

async fn costs(limiter: &dyn RateLimiter) {
    let (key, quota) = (self::key(), slow(10));
    assert_eq!(take(limiter, &key, quota, 4).await.remaining, 6);
    assert_eq!(take(limiter, &key, quota, 4).await.remaining, 2);
    let dear = take(limiter, &key, quota, 4).await;
    assert_eq!((dear.allowed, dear.remaining), (false, 2));
    assert!(dear.retry_after > HOUR && dear.retry_after <= HOUR * 2, "{dear:?}");
    assert!(take(limiter, &key, quota, 2).await.allowed, "a refusal takes nothing");
    assert!(!take(limiter, &key, quota, 1).await.allowed);
    let dearer_than_possible = take(limiter, &self::key(), quota, 1_000).await;
    assert_eq!((dearer_than_possible.allowed, dearer_than_possible.remaining), (true, 0));
}

async fn each_bucket_decides_by_itself(limiter: &dyn RateLimiter) {
    let (narrow, wide) = (key(), key());
    let ask = |key: &str, burst| Ask::one(key.to_owned(), slow(burst));
    let both = [ask(&narrow, 1), ask(&wide, 10)];
    let first = limiter.check(&both).await.unwrap();
    assert!(first.iter().all(|decision| decision.allowed));
    let second = limiter.check(&both).await.unwrap();
    let told: Vec<_> =
        second.iter().map(|told| (told.allowed, told.limit, told.remaining)).collect();
    assert_eq!(told, [(false, 1, 0), (true, 10, 8)], "in the order of the questions");
    assert!(limiter.check(&[]).await.unwrap().is_empty());
}

/// Memory is Redis's to reclaim: no key is without an end, and none outlives its bucket.
#[tokio::test(flavor = "multi_thread")]
async fn buckets_in_redis_expire_when_they_are_full() {
    let redis = connect(&single()).await;
    let limiter = RedisRateLimiter::new(redis.clone());
    let quota = Quota::new(1, Duration::from_millis(200), 5);
    let bucket = redis.key(format_args!("limit:{}", "k"));
    let ttl = async || redis.query::<i64>(redis::cmd("PTTL").arg(&bucket)).await.unwrap();
    for taken in 1..=7 {
        take(&limiter, "k", quota, 1).await;
        let ttl = ttl().await;
        assert!(ttl == -2 || (0..=200 * taken.min(5)).contains(&ttl), "{taken}: {ttl} ms");
    }
    let gone = async {
        while ttl().await != -2 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the bucket expires");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_in_redis_locks_nobody_out() {
    let redis = connect(&single()).await;
    let limiter = RedisRateLimiter::new(redis.clone());
    let put = async |key: &str, value: &str| {
        let key = redis.key(format_args!("limit:{key}"));
        redis.query::<()>(redis::cmd("SET").arg(key).arg(value)).await.unwrap();
    };
    put("garbage", "never").await;
    assert_eq!(take(&limiter, "garbage", slow(5), 1).await.remaining, 4);
    // As if the server's clock had been a century ahead.
    put("future", "4900000000000000").await;
    let decision = take(&limiter, "future", slow(5), 1).await;
    assert!(!decision.allowed && decision.retry_after <= HOUR, "{decision:?}");
    let list = redis.key("limit:list");
    redis.query::<()>(redis::cmd("RPUSH").arg(list).arg("x")).await.unwrap();
    let answer = limiter.check(&[Ask::one("list".into(), slow(5))]).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}
