//! Servers of a run's own, to be broken: a Redis with data on disk, and a balancer.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rand::RngExt;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// Longest that a server may take to answer after its start.
const SOON: Duration = Duration::from_secs(20);

/// A port nobody listens on, below those that the system gives to clients: it can be used again and again.
pub fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(10_000..30_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Every write is on disk before it is acknowledged.
pub struct RedisServer {
    child: Child,
    folder: PathBuf,
    pub port: u16,
}

impl RedisServer {
    pub async fn start(folder: &Path) -> Self {
        let (folder, port) = (folder.join("redis"), free_port());
        let child = run_redis(&folder, port).await;
        Self { child, folder, port }
    }

    /// Dies as a machine does that loses its power, and comes back with its data.
    pub async fn restart(&mut self) {
        self.child.kill().await.unwrap();
        self.child = run_redis(&self.folder, self.port).await;
    }

    /// Likewise, with an empty disk.
    pub async fn lose(&mut self) {
        self.child.kill().await.unwrap();
        std::fs::remove_dir_all(&self.folder).unwrap();
        self.child = run_redis(&self.folder, self.port).await;
    }

    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
        client.get_connection().unwrap()
    }
}

async fn run_redis(folder: &Path, port: u16) -> Child {
    std::fs::create_dir_all(folder).unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always", "--loglevel", "warning"]);
    command.arg("--port").arg(port.to_string()).arg("--dir").arg(folder);
    let child = command.stdout(Stdio::null()).kill_on_drop(true).spawn();
    let child = child.expect("redis-server starts: `make test` installs it");
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    answered("redis-server", async || {
        let mut connection = client.get_connection().ok()?;
        redis::cmd("PING").query::<String>(&mut connection).ok()
    })
    .await;
    child
}

/// Debian's haproxy: round robin without stickiness, one look at every replica's readiness a second.
pub struct Balancer {
    _child: Child,
    pub port: u16,
}

impl Balancer {
    pub async fn start(folder: &Path, replicas: &[u16]) -> Self {
        let port = free_port();
        let servers: String = replicas
            .iter()
            .map(|port| {
                format!("    server replica-{port} 127.0.0.1:{port} check inter 1s fall 2 rise 1\n")
            })
            .collect();
        let config = format!(
            "defaults
    mode http
    balance roundrobin
    option httpchk GET /health/ready
    option redispatch
    timeout connect 1s
    timeout check 1s
    timeout client 60s
    timeout server 60s
    timeout tunnel 10m
listen whatif
    bind 127.0.0.1:{port}
{servers}"
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-q").arg("-db").arg("-f").arg(file).kill_on_drop(true);
        let child = command.spawn().expect("haproxy starts: `make test` installs it");
        let http = reqwest::Client::new();
        answered("haproxy", async || {
            let answer = http.get(format!("http://127.0.0.1:{port}/health/ready")).send().await;
            answer.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        Self { _child: child, port }
    }
}

/// Asks until there is an answer.
pub async fn answered<T>(whom: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = timeout(SOON, async {
        loop {
            match ask().await {
                Some(answer) => break answer,
                None => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    asking.await.unwrap_or_else(|_| panic!("{whom} did not answer within {SOON:?}"))
}
