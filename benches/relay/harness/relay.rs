//! The servers under measurement and the mock upstream behind them, each started as a process of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::proc::Process;
use crate::upstream::{Shape, Totals};

const START_WITHIN: Duration = Duration::from_secs(30);

/// What is measured: `bare`, or `whatif:<memory|disk>:<coalesce>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variant {
    Bare,
    Whatif { durability: String, coalesce: String },
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let whatif = |durability: &str, coalesce: &str| {
            Ok(Self::Whatif { durability: durability.into(), coalesce: coalesce.into() })
        };
        match parts[..] {
            ["bare"] => Ok(Self::Bare),
            ["whatif"] => whatif("memory", "25ms"),
            ["whatif", durability @ ("memory" | "disk")] => whatif(durability, "25ms"),
            ["whatif", durability @ ("memory" | "disk"), coalesce] => whatif(durability, coalesce),
            _ => Err("expected `bare` or `whatif[:memory|disk[:<coalesce>]]`".into()),
        }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bare => f.write_str("bare"),
            Self::Whatif { durability, coalesce } => write!(f, "whatif:{durability}:{coalesce}"),
        }
    }
}

/// How servers are started.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The product's program.
    #[arg(long, default_value = "target/release/whatif")]
    pub whatif: PathBuf,
    /// More environment for the product, as KEY=VALUE.
    #[arg(long)]
    pub env: Vec<String>,
    /// Caps every purse, far above what is used, and gives tokens a price: each call is looked up, reserved and settled.
    #[arg(long)]
    pub budget: bool,
    /// Bench users; few, because a password hash is slow by design.
    #[arg(long, default_value_t = 4)]
    pub users: usize,
    /// Turns Nagle's algorithm off in the bare relay (axum leaves it on).
    #[arg(long)]
    pub bare_nodelay: bool,
}

pub struct Upstream {
    pub process: Process,
    pub port: u16,
    http: reqwest::Client,
}

impl Upstream {
    pub async fn start(origin: u64) -> anyhow::Result<Self> {
        let (process, port) =
            start_role("upstream", vec!["upstream".into(), origin.to_string()]).await?;
        Ok(Self { process, port, http: reqwest::Client::new() })
    }

    /// Scenes begun from now on have this shape; totals begin anew.
    pub async fn reshape(&self, shape: Shape) -> anyhow::Result<()> {
        let url = format!(
            "http://127.0.0.1:{}/shape?pace={}&tokens={}",
            self.port, shape.pace, shape.tokens
        );
        self.http.post(url).send().await?.error_for_status()?;
        Ok(())
    }

    pub async fn totals(&self) -> anyhow::Result<Totals> {
        let response =
            self.http.get(format!("http://127.0.0.1:{}/totals", self.port)).send().await?;
        Ok(serde_json::from_slice(&response.bytes().await?)?)
    }
}

pub struct Relay {
    pub process: Process,
    pub port: u16,
    /// Access tokens of the bench users; none for the bare relay.
    pub tokens: Vec<String>,
    /// Removed with the relay.
    _data: Option<TempDir>,
}

impl Relay {
    pub async fn start(variant: &Variant, args: &Args, upstream: u16) -> anyhow::Result<Self> {
        match variant {
            Variant::Bare => {
                let mut role = vec!["bare".into(), upstream.to_string()];
                role.extend(args.bare_nodelay.then(|| "--nodelay".into()));
                let (process, port) = start_role("bare", role).await?;
                Ok(Self { process, port, tokens: Vec::new(), _data: None })
            }
            Variant::Whatif { durability, coalesce } => {
                Self::start_whatif(durability, coalesce, args, upstream).await
            }
        }
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        self.process.stop().await
    }

    async fn start_whatif(
        durability: &str,
        coalesce: &str,
        args: &Args,
        upstream: u16,
    ) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let port = free_port()?;
        let mut more = if args.budget { budget() } else { Vec::new() };
        more.extend(args.env.iter().cloned());
        let env = environment(data.path(), port, upstream, durability, coalesce, &more)?;
        let mut process =
            Process::start("whatif", &args.whatif, &["serve".into()], &env)?.discard_output();
        let http = reqwest::Client::new();
        wait_until_ready(&http, port, &mut process).await?;
        let mut tokens = Vec::new();
        for number in 0..args.users {
            tokens.push(register(&http, port, number).await?);
        }
        Ok(Self { process, port, tokens, _data: Some(data) })
    }
}

/// Limits far above what is measured: the harness measures cost, not admission.
fn environment(
    data: &Path,
    port: u16,
    upstream: u16,
    durability: &str,
    coalesce: &str,
    more: &[String],
) -> anyhow::Result<Vec<(String, String)>> {
    let fixed = [
        ("PORT", port.to_string()),
        ("DATA_DIR", data.display().to_string()),
        ("LOG_LEVEL", "warn".into()),
        ("OPENAI_BASE_URL", format!("http://127.0.0.1:{upstream}/v1/")),
        ("WHATIF__SERVER__HOST", "127.0.0.1".into()),
        ("WHATIF__INTERNAL__ENABLED", "false".into()),
        ("WHATIF__AUTH__ACCESS_TTL", "6h".into()),
        ("WHATIF__LIMITS__ENABLED", "false".into()),
        ("WHATIF__EVENT_LOG__DURABILITY", durability.into()),
        ("WHATIF__SESSIONS__COALESCE", coalesce.into()),
        ("WHATIF__SESSIONS__MAX_TURNS", "100000".into()),
        ("WHATIF__SESSIONS__IDLE_TIMEOUT", "1h".into()),
        ("WHATIF__SOCKETS__MAX_CONNECTIONS", "100000".into()),
        ("WHATIF__SOCKETS__MAX_CONNECTIONS_PER_USER", "100000".into()),
        ("WHATIF__PROVIDERS__OPENAI__MAX_CONCURRENCY", "100000".into()),
        ("WHATIF__PROVIDERS__OPENAI__MAX_OUTPUT_TOKENS", "100000".into()),
        ("WHATIF__PROVIDERS__OPENAI__WHOLE_TIMEOUT", "10m".into()),
    ];
    let mut env: Vec<(String, String)> =
        fixed.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    for pair in more {
        let (key, value) =
            pair.split_once('=').with_context(|| format!("`{pair}` is not KEY=VALUE"))?;
        env.push((key.into(), value.into()));
    }
    Ok(env)
}

fn budget() -> Vec<String> {
    let caps = ["TURN", "SCENARIO", "USER", "DAY"].map(|purse| {
        let key = format!("WHATIF__BUDGET__{purse}");
        [format!("{key}_TOKENS=1000000000000"), format!("{key}_USD=1000000")]
    });
    let prices = ["INPUT_PRICE=150000", "OUTPUT_PRICE=600000"];
    let prices = prices.map(|price| format!("WHATIF__PROVIDERS__OPENAI__{price}"));
    caps.into_iter().flatten().chain(prices).collect()
}

/// A port that was free a moment ago; the program that gets it must bind it itself.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn start_role(name: &str, args: Vec<String>) -> anyhow::Result<(Process, u16)> {
    let mut process = Process::role(name, &args, &[])?;
    let ready = process.answer(START_WITHIN).await?;
    let port = ready["port"].as_u64().and_then(|port| port.try_into().ok()).context("no port")?;
    Ok((process.discard_output(), port))
}

async fn wait_until_ready(
    http: &reqwest::Client,
    port: u16,
    process: &mut Process,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_WITHIN;
    loop {
        for path in ["/api/v1/health/ready", "/health/ready"] {
            let answer = http.get(format!("http://127.0.0.1:{port}{path}")).send().await;
            if answer.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
        }
        process.ensure_alive()?;
        ensure!(Instant::now() < deadline, "whatif was not ready within {START_WITHIN:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn register(http: &reqwest::Client, port: u16, number: usize) -> anyhow::Result<String> {
    let body = json!({
        "email": format!("bench{number}@example.com"), "password": "a long bench pass phrase 7", "display_name": format!("Bench {number}"),
    });
    let request = http
        .post(format!("http://127.0.0.1:{port}/api/v1/auth/register"))
        .header("content-type", "application/json");
    let response = request.body(body.to_string()).send().await.context("register")?;
    let status = response.status();
    let text = response.text().await?;
    ensure!(status.is_success(), "register: {status} {text}");
    let answer: Value = serde_json::from_str(&text)?;
    Ok(answer["access_token"].as_str().context("no access token")?.to_owned())
}
