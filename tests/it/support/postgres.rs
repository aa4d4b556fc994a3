//! PostgreSQL to test against: a database of one's own on the shared server, or a whole server to stop, kill and pause.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use whatif::config::Database;
use whatif::storage::postgres::Postgres;

use super::servers;

/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The section of the configuration for a database at `url`.
pub fn config(url: &str) -> Database {
    Database { url: Some(url.into()), ..Database::default() }
}

/// Runs SQL on a connection of its own.
pub async fn run_sql(url: &str, sql: impl Into<String>) {
    let mut connection = connect(url).await;
    connection.execute(AssertSqlSafe(sql.into())).await.unwrap();
    connection.close().await.unwrap();
}

pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// An empty database on the shared server; dropped with this.
pub struct TestDatabase {
    server: String,
    name: String,
    url: String,
}

impl TestDatabase {
    pub async fn create() -> Self {
        let server = servers::postgres();
        let name = format!("whatif_test_{}", Uuid::new_v4().simple());
        run_sql(&server, format!("CREATE DATABASE {name}")).await;
        let options = PgConnectOptions::from_str(&server).unwrap().database(&name);
        Self { server, name, url: options.to_url_lossy().to_string() }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn open(&self) -> Postgres {
        Postgres::open(&config(&self.url)).await.unwrap()
    }

    /// Makes a role that may read and write the tables that are there, and nothing else; gone with the database.
    pub async fn create_role(&self, attributes: &str) {
        let role = &self.name;
        run_sql(&self.server, format!("CREATE ROLE {role} LOGIN {attributes}")).await;
    }

    pub async fn let_role_write(&self) {
        let tables = "ALL TABLES IN SCHEMA public";
        let rights = "SELECT, INSERT, UPDATE, DELETE";
        run_sql(&self.url, format!("GRANT {rights} ON {tables} TO {}", self.name)).await;
    }

    /// The same database for that role.
    pub fn url_of_role(&self) -> String {
        let options = PgConnectOptions::from_str(&self.url).unwrap().username(&self.name);
        options.to_url_lossy().to_string()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let server = self.server.clone();
        let database = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let role = format!("DROP ROLE IF EXISTS {}", self.name);
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                run_sql(&server, database).await;
                run_sql(&server, role).await;
            });
        });
        // A test that fails has more to say than this.
        let _ = dropped.join();
    }
}

/// How a server is ended.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// In order: connections are told.
    Fast,
    /// As if it had crashed.
    Kill,
}

/// A server of the test's own, in a temporary folder; killed when dropped.
pub struct Server {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Server {
    pub async fn start() -> Self {
        let folder = folder();
        let data = folder.path().join("data");
        let mut initdb = command("initdb");
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
        finish(initdb.args(["--locale=C.UTF-8", "--no-sync"]));
        let mut server = Self { folder, port: free_port(), process: None };
        server.resume().await;
        server
    }

    /// A streaming replica, once it runs.
    pub async fn replica(&self) -> Self {
        let folder = folder();
        let mut copy = command("pg_basebackup");
        copy.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string()]);
        copy.args(["-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"]);
        finish(copy.arg(folder.path().join("data")));
        let mut replica = Self { folder, port: free_port(), process: None };
        replica.resume().await;
        replica
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub async fn open(&self) -> Postgres {
        self.open_with(|_| {}).await
    }

    pub async fn open_with(&self, change: impl FnOnce(&mut Database)) -> Postgres {
        let mut config = config(&self.url());
        change(&mut config);
        Postgres::open(&config).await.unwrap()
    }

    /// Starts it, for the first time or again, and waits until it answers.
    pub async fn resume(&mut self) {
        let options = PgConnectOptions::from_str(&self.url()).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut process = self.spawn();
        while let Err(error) = options.connect().await {
            let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(Instant::now() < deadline, "{error}\n{}", log());
            // It refuses while children of a killed one are still there.
            if process.try_wait().unwrap().is_some() {
                process = self.spawn();
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.process = Some(process);
    }

    fn spawn(&self) -> Child {
        let mut postgres = command("postgres");
        postgres.arg("-D").arg(self.folder.path().join("data"));
        for setting in [
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.folder.path().display()),
            "listen_addresses=127.0.0.1".to_owned(),
            "fsync=off".to_owned(),
        ] {
            postgres.arg("-c").arg(setting);
        }
        let log = self.folder.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        postgres.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        tokio::process::Command::from(postgres).kill_on_drop(true).spawn().unwrap()
    }

    pub async fn stop(&mut self, how: Stop) {
        let mut process = self.process.take().expect("it runs");
        let pid = process.id().expect("it runs").to_string();
        let signal = match how {
            Stop::Fast => "-INT",
            Stop::Kill => "-KILL",
        };
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        tokio::time::timeout(PATIENCE, process.wait()).await.expect("it ends").unwrap();
    }
}

/// An address that can be made to lead to another server; open connections stay where they are.
pub struct Name {
    port: u16,
    leads_to: tokio::sync::watch::Sender<u16>,
    forwarding: tokio::task::JoinHandle<()>,
}

impl Name {
    pub async fn of(server: &Server) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (leads_to, target) = tokio::sync::watch::channel(server.port);
        let forwarding = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let target = *target.borrow();
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { port, leads_to, forwarding }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub fn lead_to(&mut self, server: &Server) {
        self.leads_to.send_replace(server.port);
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("whatif-postgres").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    if let Some((user, group)) = account() {
        chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    folder
}

/// PostgreSQL refuses to run as root: the account that its package makes, if we are root.
fn account() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().ok()
    };
    match id(&["-u"])? {
        0 => {
            let ids = Option::zip(id(&["-u", "postgres"]), id(&["-g", "postgres"]));
            Some(ids.expect("a user named postgres: install PostgreSQL"))
        }
        _ => None,
    }
}

/// A program of PostgreSQL's newest version here, in a place that anybody may enter.
fn command(program: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.unwrap().path().join("bin").join(program))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    let mut command = Command::new(found.pop().unwrap_or_else(|| program.into()));
    command.current_dir(Path::new("/"));
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    command
}

fn finish(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
