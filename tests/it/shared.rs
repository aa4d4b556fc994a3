//! The contracts of what replicas share beside stories: login sessions and the cache, each called once per back end.

mod cache;
mod logins;
mod redis_only;

use whatif::storage::embedded::{LocalCache, LocalLogins};
use whatif::storage::redis::{Redis, RedisCache, RedisLogins};

use super::support::redis::{cluster, server};

#[tokio::test(flavor = "multi_thread")]
async fn logins_embedded() {
    logins::run(&LocalLogins::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_on_redis() {
    logins::run(&RedisLogins::new(Redis::connect(&server()).await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_on_a_redis_cluster() {
    logins::run(&RedisLogins::new(Redis::connect(&cluster()).await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_embedded() {
    cache::run(&LocalCache::new(1_000_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_on_redis() {
    cache::run(&RedisCache::new(Redis::connect(&server()).await.unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_on_a_redis_cluster() {
    cache::run(&RedisCache::new(Redis::connect(&cluster()).await.unwrap())).await;
}
