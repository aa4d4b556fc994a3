//! Starts `aimock`, a mock of language-model APIs, as a process of its own.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A running server without fixtures. It ends when this is dropped, or at the latest with the test process.
pub struct Aimock {
    _process: Child,
    http: reqwest::Client,
    url: String,
}

impl Aimock {
    pub async fn start() -> Self {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
        assert!(
            tools.join("node_modules").is_dir(),
            "the mock server is not installed: run `make test-tools`"
        );
        let mut process = Command::new("node")
            .arg(tools.join("aimock.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts: the mock server needs it");
        let stdout = process.stdout.take().expect("a piped standard output");
        let url = BufReader::new(stdout).lines().next_line().await.expect("readable output");
        let url = url.expect("the server prints its URL before it ends");
        let http = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        Self { _process: process, http, url }
    }

    /// The OpenAI-compatible API, version included, without a slash at its end.
    pub fn openai_url(&self) -> String {
        format!("{}/v1", self.url)
    }

    /// The server's own address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Adds fixtures in the server's own format.
    pub async fn fixtures(&self, fixtures: Value) {
        let body = json!({ "fixtures": fixtures }).to_string();
        let request = self.http.post(format!("{}/__aimock/fixtures", self.url)).body(body);
        let response = request.send().await.expect("the server answers");
        let status = response.status();
        assert!(status.is_success(), "{status}: {}", response.text().await.unwrap_or_default());
    }

    /// The requests for `model` so far, each with `headers`, `body` and `response`.
    pub async fn requests(&self, model: &str) -> Vec<Value> {
        let response = self.http.get(format!("{}/__aimock/journal", self.url)).send();
        let text = response.await.expect("the server answers").text().await.expect("a body");
        let journal: Vec<Value> = serde_json::from_str(&text).expect("a list of requests");
        journal.into_iter().filter(|entry| entry["body"]["model"] == model).collect()
    }
}
