//! The one handle to Redis: a single server or a cluster, reconnecting by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo, ProtocolVersion,
    RedisResult, ServerErrorKind, Value,
};
use tokio::time::{sleep, timeout};

use super::failure::{self, ConnectError, Failure};
use super::{probe, script};
use crate::config;

/// Waits between tries to reconnect: doubled and jittered, up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Tries before one run of reconnecting ends; the next command begins another.
const TRIES: u32 = 32;
/// Commands handed over before those who send more have to wait.
const QUEUED_COMMANDS: usize = 1_024;
/// A server that stays read-only is left no more often than this.
const BETWEEN_LEAVES: Duration = Duration::from_secs(1);
const READ_ONLY: ErrorKind = ErrorKind::Server(ServerErrorKind::ReadOnly);

/// A connection to Redis, for everything but subscriptions. Cheap to clone; all clones share one connection per node,
/// on which commands overtake nobody and wait for nobody's answer.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    to: To,
    /// Set while a read-only server is being left, and a moment longer.
    leaving: AtomicBool,
    config: config::Redis,
    target: Target,
}

#[derive(Clone)]
enum To {
    Server(ConnectionManager),
    Cluster(ClusterConnection),
}

/// What to connect to, and how.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) servers: config::Servers,
    pub(super) nodes: Vec<ConnectionInfo>,
}

impl Redis {
    /// Connects to what `config.url` names, once it is seen to be there and fit.
    ///
    /// # Errors
    /// [`ConnectError`], in one line.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(config: &config::Redis) -> Result<Self, ConnectError> {
        let target = Target::parse(config)?;
        probe::probe(&target, config).await?;
        let to = target.connect(config).await.map_err(|error| target.unreachable(&error))?;
        let leaving = AtomicBool::new(false);
        Ok(Self { inner: Arc::new(Inner { to, leaving, config: config.clone(), target }) })
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.inner.to, To::Cluster(_))
    }

    /// `name` with the configured prefix before it. What stands in braces in it decides about the node.
    pub fn key(&self, name: impl std::fmt::Display) -> String {
        format!("{}:{name}", self.inner.config.prefix)
    }

    /// Sends one command; in a cluster to the node of its first key.
    ///
    /// # Errors
    /// [`Failure`]; after [`Failure::Away`] the command may have been carried out.
    pub async fn query<T: FromRedisValue>(&self, cmd: &Cmd) -> Result<T, Failure> {
        Ok(T::from_redis_value(self.answer(cmd).await??)?)
    }

    /// As [`Redis::query`], with what the server itself has against the command told apart.
    pub(super) async fn answer(&self, cmd: &Cmd) -> Result<RedisResult<Value>, Failure> {
        let limit = self.inner.config.response_timeout;
        let answer = async {
            match self.inner.to.clone() {
                To::Server(mut server) => server.req_packed_command(cmd).await,
                To::Cluster(mut cluster) => cluster.req_packed_command(cmd).await,
            }
        };
        let Ok(answer) = timeout(limit, answer).await else {
            count("away");
            return Err(Failure::timeout(limit));
        };
        Ok(answer.and_then(Value::extract_error).inspect_err(|error| match error.kind() {
            script::UNKNOWN => {}
            READ_ONLY => {
                count("refused");
                self.leave();
            }
            _ if failure::is_away(error) => count("away"),
            _ => count("refused"),
        }))
    }

    /// Leaves a server that became a replica: after a fail-over its name may lead to another one by now. (A cluster's
    /// connection finds the new primary by itself.)
    fn leave(&self) {
        let To::Server(mut server) = self.inner.to.clone() else { return };
        if self.inner.leaving.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!("this redis is read-only; connecting again");
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            let quit = redis::cmd("QUIT");
            let _ = timeout(inner.config.response_timeout, server.req_packed_command(&quit)).await;
            sleep(BETWEEN_LEAVES).await;
            inner.leaving.store(false, Ordering::Release);
        });
    }

    /// Asks whether Redis is there: every node's answer is waited for.
    ///
    /// # Errors
    /// As [`Redis::query`].
    pub async fn ping(&self) -> Result<(), Failure> {
        self.query(&redis::cmd("PING")).await
    }

    pub(super) fn target(&self) -> &Target {
        &self.inner.target
    }

    pub(super) fn config(&self) -> &config::Redis {
        &self.inner.config
    }
}

impl Target {
    fn parse(config: &config::Redis) -> Result<Self, ConnectError> {
        let url = |error: &dyn std::fmt::Display| ConnectError::Url(error.to_string());
        let servers = config.servers().map_err(|error| url(&error))?;
        let servers = servers.ok_or_else(|| url(&"is not set"))?;
        let nodes = servers.nodes.iter().map(|node| {
            let info = node.as_str().into_connection_info()?;
            let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            Ok(info.set_redis_settings(redis).set_tcp_settings(tcp(config)))
        });
        let nodes: RedisResult<_> = nodes.collect();
        Ok(Self { nodes: nodes.map_err(|error| url(&error))?, servers })
    }

    pub(super) fn unreachable(&self, cause: &redis::RedisError) -> ConnectError {
        ConnectError::Unreachable { servers: self.servers.to_string(), cause: cause.to_string() }
    }

    async fn connect(&self, config: &config::Redis) -> RedisResult<To> {
        if self.servers.is_cluster {
            let client = self.cluster(config).build()?;
            return Ok(To::Cluster(client.get_async_connection().await?));
        }
        let server = ConnectionManager::new_with_config(self.client()?, manager(config)).await?;
        Ok(To::Server(server))
    }

    /// The first (or only) server.
    pub(super) fn client(&self) -> RedisResult<Client> {
        Client::open(self.nodes[0].clone())
    }

    /// A cluster's client, to be completed.
    pub(super) fn cluster(&self, config: &config::Redis) -> ClusterClientBuilder {
        ClusterClient::builder(self.nodes.clone())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(config.connect_timeout)
            .response_timeout(config.response_timeout)
            .retries(TRIES)
            .min_retry_wait(millis(SHORTEST_WAIT))
            .max_retry_wait(millis(LONGEST_WAIT))
            .tcp_settings(tcp(config))
    }
}

fn count(kind: &'static str) {
    metrics::counter!("whatif_redis_failures_total", "kind" => kind).increment(1);
}

/// How a single server's connection is kept; to be completed.
pub(super) fn manager(config: &config::Redis) -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_min_delay(SHORTEST_WAIT)
        .set_max_delay(LONGEST_WAIT)
        .set_number_of_retries(TRIES as usize)
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.response_timeout))
        .set_pipeline_buffer_size(QUEUED_COMMANDS)
}

/// A peer that vanished without a word (a cut cable, a lost host) is noticed by the kernel.
fn tcp(config: &config::Redis) -> TcpSettings {
    let patience = config.response_timeout.max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(patience).with_interval(patience);
    TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(patience * 2)
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
