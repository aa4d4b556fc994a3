//! The product as it is run: replicas behind a balancer on PostgreSQL, Redis, a DynamoDB-compatible server and a model,
//! with a proxy wherever a wire can be held.

use std::fmt::Write as _;
use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;
use whatif::domain::patch::Object;
use whatif::domain::scenario::Choice;
use whatif::domain::turn_format::render;

use super::servers::{Balancer, RedisServer, answered, free_port, local};
use crate::process::Server;
use crate::support::aimock::Aimock;
use crate::support::app::PASSWORD;
use crate::support::proxy::Proxy;
use crate::support::servers;

/// The model that the mock server speaks as.
const MODEL: &str = "chaos";

/// A drain, with a margin for a machine that is busy.
const DRAINED: Duration = Duration::from_secs(25);

pub struct World {
    folder: TempDir,
    env: Vec<(String, String)>,
    pub replicas: Vec<Replica>,
    _balancer: Balancer,
    pub redis: RedisServer,
    /// Between clients and balancer.
    pub front: Proxy,
    pub redis_wire: Proxy,
    pub postgres_wire: Proxy,
    pub model_wire: Proxy,
    model: Aimock,
}

pub struct Replica {
    number: usize,
    port: u16,
    server: Option<Server>,
}

impl World {
    /// Starts everything; `env` is added to every replica's.
    pub async fn start(replicas: usize, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(folder.path()).await;
        let redis_wire = Proxy::start(local(redis.port)).await;
        let (postgres_wire, database) = own_database().await;
        let model = Aimock::start().await;
        model.fixtures(fixtures()).await;
        let model_wire = Proxy::start(local(port_of(model.url()))).await;
        let mut all: Vec<(String, String)> = [
            ("JWT_SECRET", "chaos chaos chaos chaos chaos chaos".to_owned()),
            ("JWT_EXPIRATION", "7200".to_owned()),
            ("DATABASE_URL", database),
            ("REDIS_URL", format!("redis://127.0.0.1:{}", redis_wire.port)),
            ("DYNAMODB_ENDPOINT", servers::dynamodb()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("OPENAI_BASE_URL", format!("http://127.0.0.1:{}/v1", model_wire.port)),
            ("WHATIF__PROVIDERS__OPENAI__MODEL", MODEL.to_owned()),
            ("WHATIF__SOCKETS__MAX_CONNECTIONS_PER_USER", "1000".to_owned()),
            ("WHATIF__SERVER__DRAIN_TIMEOUT", "10s".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        all.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut replicas: Vec<_> = (1..=replicas)
            .map(|number| Replica { number, port: free_port(), server: None })
            .collect();
        // One after the other the first time: whoever is first makes the tables.
        for replica in &mut replicas {
            replica.start(folder.path(), &all).await;
        }
        let ports: Vec<_> = replicas.iter().map(|replica| replica.port).collect();
        let balancer = Balancer::start(folder.path(), &ports).await;
        let front = Proxy::start(local(balancer.port)).await;
        Self {
            folder,
            env: all,
            replicas,
            _balancer: balancer,
            redis,
            front,
            redis_wire,
            postgres_wire,
            model_wire,
            model,
        }
    }

    /// Where clients go.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1", self.front.port)
    }

    /// An account's access token.
    pub async fn register(&self) -> String {
        let email = format!("{}@example.org", Uuid::new_v4());
        let body = json!({ "email": email, "password": PASSWORD, "display_name": "Ada" });
        let url = format!("{}/auth/register", self.base());
        let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(status, 201, "{answer}");
        answer["access_token"].as_str().unwrap().to_owned()
    }

    pub async fn kill(&mut self, number: usize) {
        self.replicas[number].server.take().expect("it runs").kill().await;
    }

    pub async fn revive(&mut self, number: usize) {
        self.replicas[number].start(self.folder.path(), &self.env).await;
    }

    /// `STOP` and `CONT`.
    pub async fn signal(&self, number: usize, signal: &str) {
        self.replicas[number].server.as_ref().expect("it runs").signal(signal).await;
    }

    /// Drains one after the other; each is back before the next one goes.
    pub async fn roll(&mut self) {
        for number in 0..self.replicas.len() {
            self.signal(number, "TERM").await;
            let mut server = self.replicas[number].server.take().expect("it runs");
            assert_eq!(server.ended(DRAINED).await, Some(0), "a drain ends well: {}", server.log());
            self.revive(number).await;
        }
    }

    /// Waits until every replica takes requests.
    pub async fn ready(&self) {
        join_all(self.replicas.iter().map(|replica| async {
            let server = replica.server.as_ref().expect("it runs");
            let name = format!("replica {}", replica.number);
            answered(&name, async || {
                let answer = server.request(Method::GET, "/health/ready").send().await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await;
        }))
        .await;
    }

    /// What replicas logged, as JSON, with whoever said it.
    pub fn logged(&self) -> Vec<(usize, Value)> {
        let mut lines = Vec::new();
        for replica in &self.replicas {
            let file =
                self.folder.path().join(format!("replica-{}", replica.number)).join("stderr.log");
            let log = std::fs::read_to_string(file).unwrap_or_default();
            lines.extend(log.lines().map(|line| {
                let parsed =
                    serde_json::from_str(line).unwrap_or_else(|_| json!({ "message": line }));
                (replica.number, parsed)
            }));
        }
        lines
    }

    /// The end of what went wrong according to the replicas.
    pub fn complaints(&self, most: usize) -> String {
        let logged = self.logged();
        let loud: Vec<_> = logged.iter().filter(|(_, line)| line["level"] != "INFO").collect();
        let mut text = String::new();
        for (number, line) in loud.iter().skip(loud.len().saturating_sub(most)) {
            let _ = writeln!(text, "    replica {number}: {line}");
        }
        text
    }

    /// What the replicas said about a scenario, in order.
    pub fn said_of(&self, scenario: &str) -> Vec<String> {
        let logged = self.logged().into_iter().filter(|(_, line)| line["scenario"] == scenario);
        let mut said: Vec<_> = logged
            .map(|(number, line)| {
                format!(
                    "{} replica {number}: {} {}",
                    line["timestamp"], line["message"], line["turn"]
                )
            })
            .collect();
        said.sort();
        said
    }

    /// Calls that the model was asked and will charge for, by the prompt they belong to: what it noted of each.
    pub async fn calls(&self, prompt: &str) -> Vec<Value> {
        let mut requests = self.model.requests(MODEL).await;
        requests.retain(|request| request["body"].to_string().contains(prompt));
        requests
    }
}

impl Replica {
    async fn start(&mut self, folder: &std::path::Path, env: &[(String, String)]) {
        let folder = folder.join(format!("replica-{}", self.number));
        std::fs::create_dir_all(&folder).unwrap();
        let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.server = Some(Server::start(&folder, self.port, &env).await);
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }
}

/// An empty database behind a proxy, and its URL.
async fn own_database() -> (Proxy, String) {
    let url = servers::postgres();
    let name = format!("chaos_{}", Uuid::new_v4().simple());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let create = format!("CREATE DATABASE {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
    let wire = Proxy::start(local(port_of(&url))).await;
    let url = format!("postgres://postgres@127.0.0.1:{}/{name}?sslmode=disable", wire.port);
    (wire, url)
}

fn port_of(url: &str) -> u16 {
    reqwest::Url::parse(url).unwrap().port().expect("a URL with a port")
}

/// A scene of about four seconds, so that a fault finds it under way.
fn fixtures() -> Value {
    let prose: Vec<_> =
        (1..=60).map(|number| format!("On day {number} the river stood higher.")).collect();
    let choice = |label: &str| Choice { id: String::new(), label: label.into(), hint: None };
    let content = render(&prose.join(" "), &[choice("Stay"), choice("Leave")], &Object::new());
    json!([{
        "match": { "model": MODEL }, "chunkSize": 16, "latency": 30,
        "response": { "content": content, "usage": { "prompt_tokens": 100, "completion_tokens": 200 } },
    }])
}
