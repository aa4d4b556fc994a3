//! A whole replica in this process, on free ports and a folder of its own, and a caller that talks to it from outside.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;
use whatif::boot::{self, Replica};
use whatif::config::{Config, Limits};

pub struct App {
    replica: Option<Replica>,
    config: Config,
    pub base: String,
    pub http: reqwest::Client,
    folder: TempDir,
}

/// Someone with an account.
#[derive(Clone)]
pub struct Reader {
    pub id: String,
    pub email: String,
    pub token: String,
    pub refresh: String,
}

pub const PASSWORD: &str = "correct horse battery staple";

/// A limit that nobody reaches.
const MANY: u32 = 1_000_000;

impl App {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts with changes to a configuration that suits tests: free ports, no pauses in the telling.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        config.server.host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        config.server.port = 0;
        config.internal.enabled = false;
        config.providers.storyteller.words_per_second = 0.0;
        config.server.drain_timeout = Duration::from_secs(10);
        // Tests ask faster than people, and all from one address.
        config.limits = Limits {
            per_user: MANY,
            per_address: MANY,
            auth_per_address: MANY,
            auth_per_account: MANY,
            turns_per_user: MANY,
            ..Limits::default()
        };
        change(&mut config);
        let replica = boot::start(config.clone()).await.unwrap();
        let base = format!("http://{}", replica.address);
        Self { replica: Some(replica), config, base, http: reqwest::Client::new(), folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn replica(&self) -> &Replica {
        self.replica.as_ref().unwrap()
    }

    /// Drains and stops, then starts again on the same folder (and another port).
    pub async fn restart(&mut self) {
        self.stop().await;
        let replica = boot::start(self.config.clone()).await.unwrap();
        self.base = format!("http://{}", replica.address);
        self.replica = Some(replica);
    }

    /// As [`App::restart`], with changes to the configuration.
    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
        self.restart().await;
    }

    pub async fn stop(&mut self) {
        if let Some(replica) = self.replica.take() {
            replica.shut_down().await;
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// Opens an account.
    pub async fn reader(&self) -> Reader {
        let email = format!("{}@example.org", Uuid::new_v4());
        let body = json!({ "email": email, "password": PASSWORD, "display_name": "Ada" });
        let answer = self.request(Method::POST, "/auth/register").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let answer: Value = answer.json().await.unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Reader {
            id: text(&answer["user"]["id"]),
            email,
            token: text(&answer["access_token"]),
            refresh: text(&answer["refresh_token"]),
        }
    }

    /// Status and JSON body (null if there is none) of a request by `reader`.
    pub async fn ask(
        &self,
        reader: &Reader,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = self.request(method, path).bearer_auth(&reader.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Begins a scenario and returns its answer.
    pub async fn scenario(&self, reader: &Reader, prompt: &str) -> Value {
        let body = json!({ "prompt": prompt, "seed": 7, "length": "short" });
        let (status, scenario) = self.ask(reader, Method::POST, "/scenarios", Some(body)).await;
        assert_eq!(status, 201, "{scenario}");
        scenario
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_whatif"))
}
