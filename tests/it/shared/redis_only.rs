//! What only Redis can do wrong: keys without an end, and what others left in its keys.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;
use whatif::domain::ids::UserId;
use whatif::domain::login::{Client, Device, LoginSession};
use whatif::domain::user::LoginId;
use whatif::storage::StoreError;
use whatif::storage::cache::{CacheStore, MAX_TTL};
use whatif::storage::login::LoginStore;
use whatif::storage::redis::{Redis, RedisCache, RedisLogins};

use super::super::support::redis::server;

fn login(user: UserId) -> LoginSession {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    LoginSession {
        id: LoginId(Uuid::new_v4()),
        user,
        client: Client { device: Device::new("phone"), address: None },
        created_at: now,
        last_used_at: now,
        expires_at: now,
    }
}

async fn ask<T: redis::FromRedisValue>(redis: &Redis, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    redis.query(&command).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_ends() {
    let redis = Redis::connect(&server()).await.unwrap();
    let (logins, cache) = (RedisLogins::new(redis.clone()), RedisCache::new(redis.clone()));
    let ada = login(UserId(Uuid::new_v4()));
    let set = redis.key(format_args!("logins:{{{}}}", ada.user));
    let hash = redis.key(format_args!("login:{{{}}}:{}", ada.user, ada.id.0));
    let ttl = async |key: &str| ask::<i64>(&redis, &["PTTL", key]).await;
    logins.record(&ada, Duration::from_secs(100)).await.unwrap();
    for key in [&set, &hash] {
        assert!((90_000..=100_000).contains(&ttl(key).await), "{key}");
    }
    // The set lives as long as its last login, whichever comes last.
    logins.record(&login(ada.user), Duration::from_secs(50)).await.unwrap();
    assert!((90_000..=100_000).contains(&ttl(&set).await));
    logins.record(&login(ada.user), Duration::from_secs(200)).await.unwrap();
    assert!((190_000..=200_000).contains(&ttl(&set).await));
    logins.touch(ada.user, ada.id, Timestamp::MAX).await.unwrap();
    assert!((90_000..=100_000).contains(&ttl(&hash).await), "a use keeps nothing longer");
    logins.touch(ada.user, LoginId(Uuid::nil()), Timestamp::MAX).await.unwrap();
    logins.remove_of_user(ada.user, None).await.unwrap();
    assert_eq!((ttl(&set).await, ttl(&hash).await), (-2, -2), "nothing is left");

    cache.put("a", Bytes::from("x"), Duration::MAX).await.unwrap();
    let most = i64::try_from(MAX_TTL.as_millis()).unwrap();
    assert!((1..=most).contains(&ttl(&redis.key("cache:a")).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_hides_nothing_else_and_can_be_recorded_anew() {
    let redis = Redis::connect(&server()).await.unwrap();
    let store = RedisLogins::new(redis.clone());
    let user = UserId(Uuid::new_v4());
    let logins: Vec<_> = (0..4).map(|_| login(user)).collect();
    for login in &logins {
        store.record(login, Duration::from_secs(100)).await.unwrap();
    }
    let hash = |number: usize| redis.key(format_args!("login:{{{user}}}:{}", logins[number].id.0));
    ask::<()>(&redis, &["HSET", &hash(0), "used", "never"]).await;
    ask::<()>(&redis, &["HDEL", &hash(1), "created"]).await;
    ask::<()>(&redis, &["DEL", &hash(2)]).await;
    let set = redis.key(format_args!("logins:{{{user}}}"));
    ask::<()>(&redis, &["ZADD", &set, "99999999999999", "somebody"]).await;
    assert_eq!(store.list_of_user(user).await.unwrap(), [logins[3].clone()]);
    for login in &logins {
        store.record(login, Duration::from_secs(100)).await.unwrap();
        assert!(store.touch(user, login.id, login.last_used_at).await.unwrap());
    }
    assert_eq!(store.list_of_user(user).await.unwrap().len(), 4);

    // Something else under a key of ours is Redis's failure, not ours.
    let other = login(user);
    let key = redis.key(format_args!("login:{{{user}}}:{}", other.id.0));
    ask::<()>(&redis, &["SET", &key, "x"]).await;
    let refused = store.record(&other, Duration::from_secs(100)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}
