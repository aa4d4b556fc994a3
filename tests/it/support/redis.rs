//! Redis for tests: the shared servers under a prefix of the test's own, and servers of a test's own to be mistreated.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use whatif::config;
use whatif::storage::redis::{Redis, RedisBus, RedisLog, Subscriptions};

use super::servers;

/// The shared single server.
pub fn server() -> config::Redis {
    configured(&servers::redis())
}

/// The shared cluster.
pub fn cluster() -> config::Redis {
    configured(&servers::redis_cluster().join(","))
}

/// A server and a prefix that nobody else uses.
pub fn configured(url: &str) -> config::Redis {
    config::Redis {
        url: Some(url.into()),
        prefix: format!("test-{}", Uuid::new_v4().simple()),
        ..config::Redis::default()
    }
}

/// What one replica has of Redis.
pub struct Replica {
    pub redis: Redis,
    pub log: RedisLog,
    pub bus: RedisBus,
}

pub async fn replica(config: &config::Redis) -> Replica {
    let redis = Redis::connect(config).await.unwrap();
    let subscriptions = Subscriptions::start(&redis);
    let bus = RedisBus::new(redis.clone(), subscriptions.clone());
    let log = RedisLog::new(redis.clone(), subscriptions, Duration::from_secs(60));
    Replica { redis, log, bus }
}

/// The nodes behind a configuration, each by itself.
pub async fn nodes(config: &config::Redis) -> Vec<MultiplexedConnection> {
    let mut nodes = Vec::new();
    for node in config.servers().unwrap().unwrap().nodes {
        let client = Client::open(node).unwrap();
        nodes.push(client.get_multiplexed_async_connection().await.unwrap());
    }
    nodes
}

/// `words` as a command to every node.
pub async fn tell_all<T: FromRedisValue>(
    nodes: &mut [MultiplexedConnection],
    words: &[&str],
) -> Vec<T> {
    let mut answers = Vec::new();
    for node in nodes {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        answers.push(command.query_async(node).await.unwrap());
    }
    answers
}

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let (mut condition, what) = (condition, what.to_owned());
    async move {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !condition().await {
            assert!(Instant::now() < deadline, "{what}: not within 15 s");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A server of the test's own; it ends with this.
pub struct OwnServer {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl OwnServer {
    pub async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(port, &folder);
        let server = Self { child, port, folder };
        server.is_there().await;
        server
    }

    pub fn config(&self) -> config::Redis {
        configured(&format!("redis://127.0.0.1:{}", self.port))
    }

    async fn is_there(&self) {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        until("a server of its own", async || {
            client.get_multiplexed_async_connection().await.is_ok()
        })
        .await;
    }

    /// Ends it at once; what it held is lost.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, empty, where it was.
    pub async fn start_again(&mut self) {
        self.child = spawn(self.port, &self.folder);
        self.is_there().await;
    }

    /// Stops it in the middle of what it does, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(told.unwrap().success());
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, folder: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server can be started: run `make test`")
}
