//! What every [`RevocationStore`] must do, whatever keeps it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use uuid::Uuid;
use whatif::domain::ids::UserId;
use whatif::domain::user::LoginId;
use whatif::storage::StoreError;
use whatif::storage::embedded::LocalRevocations;
use whatif::storage::redis::RedisRevocations;
use whatif::storage::revocation::{Position, Revocation, RevocationStore};

use super::{cluster, connect, single};

const LONG: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    contract(Arc::new(LocalRevocations::default()), &LocalRevocations::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    let other = RedisRevocations::new(connect(&single()).await);
    contract(Arc::new(RedisRevocations::new(connect(&single()).await)), &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_keeps_the_contract() {
    let other = RedisRevocations::new(connect(&cluster()).await);
    contract(Arc::new(RedisRevocations::new(connect(&cluster()).await)), &other).await;
}

fn login() -> Revocation {
    Revocation::Ended(LoginId(Uuid::new_v4()))
}

fn user() -> UserId {
    UserId(Uuid::new_v4())
}

/// `short` is another empty store, for what expires.
async fn contract(store: Arc<dyn RevocationStore>, short: &dyn RevocationStore) {
    in_their_order(&*store).await;
    of_a_user_the_latest_word(&*store).await;
    readers_miss_nothing(&store).await;
    kept_for_a_while(short).await;
}

async fn in_their_order(store: &dyn RevocationStore) {
    let nothing = store.since(Position::default()).await.unwrap();
    assert!(nothing.revocations.is_empty());
    let said: Vec<Revocation> = (0..20).map(|_| login()).collect();
    for revocation in &said {
        store.publish(*revocation, LONG).await.unwrap();
    }
    let news = store.since(Position::default()).await.unwrap();
    assert_eq!(news.revocations, said);
    let after = store.since(news.position).await.unwrap();
    assert_eq!((after.revocations, after.position), (Vec::new(), news.position));
    store.publish(said[3], LONG).await.unwrap();
    let after = store.since(news.position).await.unwrap();
    assert_eq!(after.revocations, [said[3]], "said again, heard again");
}

async fn of_a_user_the_latest_word(store: &dyn RevocationStore) {
    let (ada, bob) = (user(), user());
    let start = store.since(Position::default()).await.unwrap().position;
    let (suspended, restored) = (Revocation::Suspended, Revocation::Restored);
    for revocation in [suspended(ada), suspended(bob), restored(ada), restored(bob), suspended(bob)]
    {
        store.publish(revocation, LONG).await.unwrap();
    }
    let news = store.since(start).await.unwrap();
    assert_eq!(news.revocations, [restored(ada), suspended(bob)]);
}

async fn readers_miss_nothing(store: &Arc<dyn RevocationStore>) {
    let mut heard = Vec::new();
    let mut position = store.since(Position::default()).await.unwrap().position;
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let said: Vec<Revocation> = (0..25).map(|_| login()).collect();
                for revocation in &said {
                    store.publish(*revocation, LONG).await.unwrap();
                }
                said
            })
        })
        .collect();
    let all_heard = async {
        while heard.len() < 200 {
            let news = store.since(position).await.unwrap();
            position = news.position;
            heard.extend(news.revocations);
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), all_heard).await.expect("everything is heard");
    for writer in writers {
        for revocation in writer.await.unwrap() {
            assert!(heard.contains(&revocation), "missed");
        }
    }
}

async fn kept_for_a_while(store: &dyn RevocationStore) {
    const SHORT: Duration = Duration::from_millis(300);
    store.publish(login(), SHORT).await.unwrap();
    let forgotten = async {
        loop {
            // Saying something is what tidies up, but nothing has to be said.
            let news = store.since(Position::default()).await.unwrap();
            if news.revocations.is_empty() {
                break;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), forgotten).await.expect("the past is forgotten");
    let fresh = login();
    store.publish(fresh, LONG).await.unwrap();
    let news = store.since(Position::default()).await.unwrap();
    assert_eq!(news.revocations, [fresh]);
}

/// As after a fail-over to a server whose clock is behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_hides_no_news() {
    let config = single();
    let redis = connect(&config).await;
    let store = RedisRevocations::new(redis.clone());
    let ahead = format!("ended:{}", Uuid::new_v4());
    let mut add = redis::cmd("ZADD");
    add.arg(redis.key("revocations")).arg("4900000000000000").arg(&ahead);
    redis.query::<()>(&add).await.unwrap();
    let seen = store.since(Position::default()).await.unwrap();
    assert_eq!(seen.revocations.len(), 1);
    let fresh = login();
    store.publish(fresh, LONG).await.unwrap();
    assert_eq!(store.since(seen.position).await.unwrap().revocations, [fresh]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_version_says_is_passed_over_and_what_is_none_is_told() {
    let redis = connect(&single()).await;
    let store = RedisRevocations::new(redis.clone());
    let key = redis.key("revocations");
    redis.query::<()>(redis::cmd("ZADD").arg(&key).arg("7").arg("device:x")).await.unwrap();
    let fresh = login();
    store.publish(fresh, LONG).await.unwrap();
    assert_eq!(store.since(Position::default()).await.unwrap().revocations, [fresh]);
    redis.query::<()>(redis::cmd("DEL").arg(&key)).await.unwrap();
    redis.query::<()>(redis::cmd("SET").arg(&key).arg("x")).await.unwrap();
    let answer = store.since(Position::default()).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    let answer = store.publish(fresh, LONG).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
}
