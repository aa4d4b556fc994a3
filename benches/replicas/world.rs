//! The world of a run: the servers that replicas share, the mock model server, and replicas to start on them.

use std::sync::Arc;

use anyhow::{Context, ensure};
use sqlx::{Connection, PgConnection};
use tokio::process::Command;
use uuid::Uuid;

use crate::Common;
use crate::api::Api;
use crate::relay::{self, Relay, Upstream, Variant};

/// Bench users: few, because a password hash is slow by design.
const USERS: usize = 4;
/// One secret for all replicas, as they need: whoever registered with one is known to the others.
const SECRET: &str = "a bench signs its tokens with this one";

pub struct World {
    pub origin: u64,
    pub upstream: Upstream,
    pub redis_url: String,
    /// Merging and what all replicas of the run have in common.
    coalesce: String,
    common: Common,
    env: Vec<String>,
    tokens: Arc<Vec<String>>,
}

/// Replicas that share keys in Redis which no others use.
pub struct Cluster {
    pub replicas: Vec<Replica>,
    /// What their keys in Redis begin with.
    pub prefix: String,
}

pub struct Replica {
    relay: Relay,
    pub api: Api,
}

impl World {
    /// Starts the mock model server; `env` is given to every replica of the run.
    ///
    /// # Errors
    /// If a server's address is not in the environment, or a server does not answer.
    pub async fn start(
        origin: u64,
        common: &Common,
        coalesce: &str,
        env: &[String],
    ) -> anyhow::Result<Self> {
        let program = &common.whatif;
        ensure!(
            program.is_file(),
            "{} is missing: `cargo build --release` makes it",
            program.display()
        );
        let redis_url = server("WHATIF_TEST_REDIS_URL")?;
        let database = own_database(&server("WHATIF_TEST_POSTGRES_URL")?).await?;
        let mut all = vec![
            format!("JWT_SECRET={SECRET}"),
            format!("DATABASE_URL={database}"),
            format!("REDIS_URL={redis_url}"),
            format!("DYNAMODB_ENDPOINT={}", server("WHATIF_TEST_DYNAMODB_URL")?),
            "AWS_REGION=us-east-1".into(),
            "AWS_ACCESS_KEY_ID=bench".into(),
            "AWS_SECRET_ACCESS_KEY=bench".into(),
            format!("WHATIF__DYNAMODB__TABLE_PREFIX={}", unique()),
        ];
        all.extend_from_slice(env);
        all.extend_from_slice(&common.env);
        let mut world = Self {
            origin,
            upstream: Upstream::start(origin).await?,
            redis_url,
            coalesce: coalesce.into(),
            common: common.clone(),
            env: all,
            tokens: Arc::default(),
        };
        // The first replica makes the tables and the users; those that are measured find them there.
        let first = world.relay(&unique(), USERS).await?;
        world.tokens = Arc::new(first.tokens.clone());
        first.stop().await?;
        Ok(world)
    }

    pub async fn cluster(&self, replicas: usize) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster { replicas: Vec::new(), prefix: unique() };
        for _ in 0..replicas {
            cluster.replicas.push(self.replica(&cluster.prefix).await?);
        }
        Ok(cluster)
    }

    /// Starts one more replica of a cluster.
    pub async fn replica(&self, prefix: &str) -> anyhow::Result<Replica> {
        let relay = self.relay(prefix, 0).await?;
        let http = reqwest::Client::new();
        let api = Api { http, port: relay.port, tokens: Arc::clone(&self.tokens) };
        Ok(Replica { relay, api })
    }

    async fn relay(&self, prefix: &str, users: usize) -> anyhow::Result<Relay> {
        let mut env = self.env.clone();
        env.push(format!("WHATIF__REDIS__PREFIX={prefix}"));
        let whatif = self.common.whatif.clone();
        let args = relay::Args { whatif, env, budget: false, users, bare_nodelay: false };
        // The log is in Redis: how durable an embedded one would be says nothing.
        let variant =
            Variant::Whatif { durability: "memory".into(), coalesce: self.coalesce.clone() };
        Relay::start(&variant, &args, self.upstream.port).await
    }
}

impl Cluster {
    pub async fn stop(self) -> anyhow::Result<()> {
        for replica in self.replicas {
            replica.kill().await?;
        }
        Ok(())
    }
}

impl Replica {
    /// As `kill -9` does; returns when the process is gone.
    pub async fn kill(self) -> anyhow::Result<()> {
        self.relay.stop().await
    }

    /// Asks for a drain.
    pub async fn terminate(&self) -> anyhow::Result<()> {
        let pid = self.relay.process.pid.to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().await?;
        ensure!(status.success(), "no signal reached process {pid}");
        Ok(())
    }

    pub fn cpu_s(&self) -> anyhow::Result<f64> {
        self.relay.process.cpu_s()
    }
}

/// The machine's load average over the last minute.
pub fn load() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().context("empty /proc/loadavg")?.parse()?)
}

fn unique() -> String {
    format!("bench_{}", Uuid::new_v4().simple())
}

fn server(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| {
        format!("{name} is not set: run this through `scripts/servers with DIR cargo bench …`")
    })
}

/// An empty database on a shared server.
async fn own_database(url: &str) -> anyhow::Result<String> {
    let name = unique();
    let mut connection = PgConnection::connect(url).await.context("connect to PostgreSQL")?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .context("create a database")?;
    let mut url = reqwest::Url::parse(url)?;
    url.set_path(&name);
    url.set_query(Some("sslmode=disable"));
    Ok(url.into())
}
