//! The real binary: how it starts, refuses to, stops, logs, and what is left when it is killed.

pub mod commands;
mod kill;
mod logs;
mod reader;
mod stop;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::support::app::{PASSWORD, binary};

/// A running `whatif serve` with a folder and a log of its own; killed when dropped.
pub struct Server {
    child: Child,
    pub port: u16,
    pub greeting: String,
    log: PathBuf,
    pub http: reqwest::Client,
}

/// The binary with nothing of the surroundings' configuration, in `folder`.
pub fn whatif(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
    command.env("DATA_DIR", folder.join("data")).env("WHATIF__INTERNAL__ENABLED", "false");
    command.env("WHATIF__SERVER__HOST", "127.0.0.1").env("PORT", "0");
    command
}

impl Server {
    /// Starts on `port` (0: any) and waits for the greeting.
    pub async fn start(folder: &Path, port: u16, env: &[(&str, &str)]) -> Self {
        let log = folder.join("stderr.log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        Self::start_logging_to(file.into(), folder, port, env).await
    }

    /// As [`Server::start`], with its standard error going elsewhere than into its log.
    pub async fn start_logging_to(
        stderr: Stdio,
        folder: &Path,
        port: u16,
        env: &[(&str, &str)],
    ) -> Self {
        let log = folder.join("stderr.log");
        let mut command = whatif(folder, &["serve"]);
        command.env("PORT", port.to_string()).envs(env.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut greeting = String::new();
        let greeted = timeout(Duration::from_secs(30), async {
            while let Some(line) = lines.next_line().await.unwrap() {
                greeting.push_str(&line);
                greeting.push('\n');
                if line.contains("first request") {
                    return true;
                }
            }
            false
        });
        let greeted = greeted.await.expect("a greeting within 30 s");
        assert!(greeted, "{greeting}{}", std::fs::read_to_string(&log).unwrap_or_default());
        let port = greeting.split("http://127.0.0.1:").nth(1).unwrap();
        let port = port.split_whitespace().next().unwrap().parse().unwrap();
        Self { child, port, greeting, log, http: reqwest::Client::new() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/api/v1{path}", self.port)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub async fn ask(&self, request: RequestBuilder) -> (u16, Value) {
        let answer = request.send().await;
        let answer = answer.unwrap_or_else(|error| panic!("no answer: {error:?}: {}", self.log()));
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Opens an account; its answer.
    pub async fn register(&self, email: &str) -> Value {
        let body = json!({ "email": email, "password": PASSWORD, "display_name": "Ada" });
        let (status, answer) =
            self.ask(self.request(Method::POST, "/auth/register").json(&body)).await;
        assert_eq!(status, 201, "{answer}");
        answer
    }

    pub async fn scenario(&self, token: &str, prompt: &str) -> Value {
        let body = json!({ "prompt": prompt, "seed": 7, "length": "short" });
        let request = self.request(Method::POST, "/scenarios").bearer_auth(token).json(&body);
        let (status, answer) = self.ask(request).await;
        assert_eq!(status, 201, "{answer}");
        answer
    }

    /// `TERM`, `INT`, …
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap();
        assert!(sent.success());
    }

    /// The exit code.
    pub async fn ended(&mut self, within: Duration) -> Option<i32> {
        let ended = timeout(within, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("still there after {within:?}: {}", self.log()))
            .unwrap()
            .code()
    }

    /// As if the machine had lost its power.
    pub async fn kill(mut self) -> u16 {
        self.child.kill().await.unwrap();
        self.port
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}
