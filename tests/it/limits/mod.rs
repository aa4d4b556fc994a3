//! Rate limits and revocations: the contracts of their stores on every back end, what happens while a shared store is
//! away, and what callers see of it all.

mod away;
mod http;
mod news;
mod revoked;
mod store;

use uuid::Uuid;
use whatif::config;
use whatif::storage::redis::Redis;

use super::support::servers;

/// The single server, with keys of the test's own.
fn single() -> config::Redis {
    at(servers::redis())
}

fn cluster() -> config::Redis {
    at(servers::redis_cluster().join(","))
}

fn at(url: String) -> config::Redis {
    let prefix = format!("limits-{}", Uuid::new_v4());
    config::Redis { url: Some(url.into()), prefix, ..config::Redis::default() }
}

async fn connect(config: &config::Redis) -> Redis {
    Redis::connect(config).await.unwrap()
}
