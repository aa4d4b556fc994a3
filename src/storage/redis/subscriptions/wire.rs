//! The connection that subscriptions live on.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::future::try_join_all;
use redis::RedisResult;
use redis::aio::ConnectionManager;
use redis::cluster::ClusterConfig;
use redis::cluster_async::ClusterConnection;

use super::Shared;
use crate::storage::redis::connection::{self, Redis};

/// Channels in one command.
const CHUNK: usize = 256;

#[derive(Clone)]
pub(super) enum Wire {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Wire {
    /// What arrives goes to `shared`. Connects with the first command.
    pub(super) fn lazy(redis: &Redis, shared: &Arc<Shared>) -> RedisResult<Self> {
        let (target, config) = (redis.target(), redis.config());
        let shared = Arc::downgrade(shared);
        let take = move |push| {
            if let Some(shared) = shared.upgrade() {
                shared.take(push);
            }
            Ok::<_, Infallible>(())
        };
        if redis.is_cluster() {
            let client = target.cluster(config).push_sender(take).build()?;
            let cluster = client.get_pending_async_connection_with_config(ClusterConfig::new());
            return Ok(Wire::Cluster(cluster));
        }
        let config = connection::manager(config).set_push_sender(take);
        Ok(Wire::Server(ConnectionManager::new_lazy_with_config(target.client()?, config)?))
    }

    /// Returns when all of them are confirmed.
    pub(super) async fn subscribe(&self, channels: &[Arc<str>]) -> RedisResult<()> {
        let chunks = self.chunks(channels);
        let subscribed = chunks.iter().map(async |chunk| match self.clone() {
            Wire::Server(mut server) => server.subscribe(&chunk[..]).await,
            Wire::Cluster(mut cluster) => cluster.ssubscribe(&chunk[..]).await,
        });
        try_join_all(subscribed).await.map(|_| ())
    }

    pub(super) async fn unsubscribe(&self, channels: &[Arc<str>]) -> RedisResult<()> {
        let chunks = self.chunks(channels);
        let unsubscribed = chunks.iter().map(async |chunk| match self.clone() {
            Wire::Server(mut server) => server.unsubscribe(&chunk[..]).await,
            Wire::Cluster(mut cluster) => cluster.sunsubscribe(&chunk[..]).await,
        });
        try_join_all(unsubscribed).await.map(|_| ())
    }

    /// Waits for every node's answer.
    pub(super) async fn ping(&self) -> RedisResult<()> {
        match self.clone() {
            Wire::Server(mut server) => redis::cmd("PING").query_async(&mut server).await,
            Wire::Cluster(mut cluster) => redis::cmd("PING").query_async(&mut cluster).await,
        }
    }

    /// Groups of channels for one command each: in a cluster, of one slot.
    fn chunks<'a>(&self, channels: &'a [Arc<str>]) -> Vec<Vec<&'a str>> {
        let mut by_tag: HashMap<&str, Vec<&str>> = HashMap::new();
        for channel in channels {
            let tag = match self {
                Wire::Server(_) => "",
                Wire::Cluster(_) => tag(channel),
            };
            by_tag.entry(tag).or_default().push(channel);
        }
        by_tag.values().flat_map(|group| group.chunks(CHUNK)).map(<[_]>::to_vec).collect()
    }
}

/// What stands in braces: it decides about the slot.
fn tag(channel: &str) -> &str {
    let braced = channel.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    braced.map_or(channel, |(tag, _)| tag)
}
