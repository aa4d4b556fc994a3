//! How long a reader sees nothing when a vendor goes away in the middle of a scene.
//!
//! `cargo bench --bench failover` starts the product and, in this process and on its clock, two vendors and the readers. The
//! first vendor writes at reading pace and closes its connection after some words, which is the earliest that anybody can know; the
//! second one answers at once. docs/BENCHMARKS.md says what the figures mean.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

#[derive(Debug, Parser)]
#[command(name = "failover", about = "How long a reader sees nothing when a vendor goes away")]
struct Cli {
    /// Scenes whose vendor goes away.
    #[arg(long, default_value_t = 400)]
    turns: usize,
    /// Of them at the same time.
    #[arg(long, value_delimiter = ',', default_value = "1,20")]
    streams: Vec<usize>,
    /// Words that the first vendor writes.
    #[arg(long, default_value_t = 15)]
    words: usize,
    /// Between two words.
    #[arg(long, default_value_t = 20)]
    pace_ms: u64,
    /// The product's program.
    #[arg(long, default_value = "target/release/whatif")]
    whatif: PathBuf,
    /// cargo adds it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// When what happened to one scene.
#[derive(Default, Clone, Copy)]
struct Times {
    first_asked: Option<Instant>,
    lost: Option<Instant>,
    second_asked: Option<Instant>,
}

type Seen = Arc<Mutex<HashMap<usize, Times>>>;

#[derive(Clone, Copy)]
struct Vendor {
    /// It goes away after so many words.
    dies: bool,
    words: usize,
    pace: Duration,
}

const TAIL: &str = "\n<<<CHOICES>>>\n1. Hold the line | trust\n2. Sue for peace | pride\n<<<STATE>>>\n{\"trust\":1}\n";
const START_WITHIN: Duration = Duration::from_secs(30);
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    tokio::runtime::Runtime::new()?.block_on(run(cli))
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let seen = Seen::default();
    let pace = Duration::from_millis(cli.pace_ms);
    let first = serve(Vendor { dies: true, words: cli.words, pace }, Arc::clone(&seen)).await?;
    let second = serve(Vendor { dies: false, words: 10, pace }, Arc::clone(&seen)).await?;
    let replica = Replica::start(&cli.whatif, &first, &second).await?;
    let reader = Reader::register(format!("http://127.0.0.1:{}/api/v1", replica.port)).await?;

    println!("{} scenes each; milliseconds", cli.turns);
    let mut number = 0;
    for streams in cli.streams {
        let numbers = number..number + cli.turns;
        number += cli.turns;
        let tell = |number| tell(&reader, &seen, number);
        let told: Vec<_> =
            stream::iter(numbers).map(tell).buffer_unordered(streams).collect().await;
        let told: Vec<Told> = told.into_iter().collect::<anyhow::Result<_>>()?;
        println!("\n{streams} at a time");
        let row = |name: &str, value: fn(&Told) -> f64| {
            let mut values: Vec<f64> = told.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
            println!(
                "  {name:<58} p50 {:>6.2}  p99 {:>6.2}  max {:>6.2}",
                at(0.5),
                at(0.99),
                at(1.0)
            );
        };
        row("the connection ends -> the reader has the next vendor's text", |told| told.gap);
        row("  of that, until the next vendor is asked", |told| told.asked);
        row("  and from then on", |told| told.shown);
        row("a first call's way: asked -> the reader has its text", |told| told.first_call);
        row("gap minus a first call's way: what the fail-over adds", |told| {
            told.gap - told.first_call
        });
        row("between the reader's two texts around the seam", |told| told.silence);
    }
    Ok(())
}

/// The product, as it is shipped but for vendors, limits and its data folder.
struct Replica {
    port: u16,
    process: Child,
    _data: TempDir,
}

impl Replica {
    async fn start(program: &Path, first: &str, second: &str) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(program)
            .arg("serve")
            .env("PORT", port.to_string())
            .env("DATA_DIR", data.path())
            .env("LOG_LEVEL", "error")
            .env("WHATIF__SERVER__HOST", "127.0.0.1")
            .env("WHATIF__INTERNAL__ENABLED", "false")
            .env("WHATIF__LIMITS__ENABLED", "false")
            // It fails all the time; a circuit would spare readers the very thing that is measured.
            .env("WHATIF__CIRCUITS__MIN_CALLS", u32::MAX.to_string())
            .env("WHATIF__PROVIDERS__TEXT", "first,second")
            .env("WHATIF__PROVIDERS__FIRST__KIND", "openai")
            .env("WHATIF__PROVIDERS__FIRST__BASE_URL", first)
            .env("WHATIF__PROVIDERS__SECOND__KIND", "openai")
            .env("WHATIF__PROVIDERS__SECOND__BASE_URL", second)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{}: `cargo build --release` makes it", program.display()))?;
        let mut replica = Self { port, process, _data: data };
        let health = format!("http://127.0.0.1:{port}/health/ready");
        let deadline = Instant::now() + START_WITHIN;
        while !reqwest::get(&health).await.is_ok_and(|answer| answer.status().is_success()) {
            if let Some(status) = replica.process.try_wait()? {
                anyhow::bail!("the product ended at once: {status}");
            }
            ensure!(Instant::now() < deadline, "the product is not ready within {START_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(replica)
    }
}

/// One scene's times, in milliseconds.
struct Told {
    gap: f64,
    asked: f64,
    shown: f64,
    first_call: f64,
    silence: f64,
}

async fn tell(reader: &Reader, seen: &Seen, number: usize) -> anyhow::Result<Told> {
    let scenario = reader.begin(number).await?;
    let mut texts: Vec<(Instant, String)> = Vec::new();
    let mut seam = None;
    reader
        .follow(&scenario, |event, at| match event["type"].as_str() {
            Some("turn.failover") => seam = Some(texts.len()),
            Some("text.delta") => {
                texts.push((at, event["text"].as_str().unwrap_or_default().to_owned()));
            }
            _ => {}
        })
        .await?;
    let seam = seam.context("nobody went away")?;
    ensure!(seam > 0 && seam < texts.len(), "not in the middle of a scene");
    let whole: String = texts.iter().map(|(_, text)| &**text).collect();
    ensure!(whole.matches("second").count() == 10, "words were lost or doubled: {whole}");
    let times = seen.lock().unwrap_or_else(PoisonError::into_inner)[&number];
    let (asked, lost) = (times.first_asked.context("first")?, times.lost.context("lost")?);
    let second = times.second_asked.context("second")?;
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
    Ok(Told {
        gap: ms(lost, texts[seam].0),
        asked: ms(lost, second),
        shown: ms(second, texts[seam].0),
        first_call: ms(asked, texts[0].0),
        silence: ms(texts[seam - 1].0, texts[seam].0),
    })
}

struct Reader {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Reader {
    async fn register(base: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::new();
        let body = json!({
            "email": "bench@example.com", "password": "a long bench pass phrase 7", "display_name": "Bench",
        });
        let answer = http.post(format!("{base}/auth/register")).json(&body).send().await?;
        let answer: Value = answer.error_for_status()?.json().await?;
        let token = answer["access_token"].as_str().context("no token")?.to_owned();
        Ok(Self { base, token, http })
    }

    async fn begin(&self, number: usize) -> anyhow::Result<String> {
        let body = json!({ "prompt": format!("What if mark-{number:06}?"), "length": "short" });
        let request = self.http.post(format!("{}/scenarios", self.base)).bearer_auth(&self.token);
        let answer = request.json(&body).send().await?.error_for_status()?;
        let scenario: Value = answer.json().await?;
        Ok(scenario["id"].as_str().context("no id")?.to_owned())
    }

    /// Hands every event over with the time of its arrival, up to the turn's end.
    async fn follow(
        &self,
        scenario: &str,
        mut event: impl FnMut(&Value, Instant),
    ) -> anyhow::Result<()> {
        let url = format!("{}/scenarios/{scenario}/events?after=0", self.base);
        let answer = self.http.get(url).bearer_auth(&self.token).send().await?;
        let mut answer = answer.error_for_status()?;
        let mut rest = String::new();
        while let Some(piece) = answer.chunk().await? {
            let at = Instant::now();
            rest.push_str(std::str::from_utf8(&piece).context("events are cut at characters")?);
            while let Some(end) = rest.find("\n\n") {
                let block: String = rest.drain(..end + 2).collect();
                let Some(data) = block.lines().find_map(|line| line.strip_prefix("data:")) else {
                    continue;
                };
                let told: Value = serde_json::from_str(data)?;
                event(&told, at);
                match told["type"].as_str() {
                    Some("turn.done") => return Ok(()),
                    Some("turn.failed") => anyhow::bail!("a turn failed: {told}"),
                    _ => {}
                }
            }
        }
        anyhow::bail!("the events ended before the turn")
    }
}

/// Starts a vendor; gives its base URL.
async fn serve(vendor: Vendor, seen: Seen) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, vendor, Arc::clone(&seen)));
        }
    });
    Ok(url)
}

/// Answers one request. One that is no request for a scene is left without an answer.
async fn answer(mut socket: TcpStream, vendor: Vendor, seen: Seen) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let number = loop {
        let read = socket.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
        if let Some(number) = scene_of(&request) {
            break number;
        }
    };
    let note = |set: fn(&mut Times) -> &mut Option<Instant>| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        *set(seen.entry(number).or_default()) = Some(Instant::now());
    };
    match vendor.dies {
        true => note(|times| &mut times.first_asked),
        false => note(|times| &mut times.second_asked),
    }
    socket.write_all(HEAD).await.ok()?;
    let name = if vendor.dies { "first" } else { "second" };
    for word in 0..vendor.words {
        if word > 0 {
            tokio::time::sleep(vendor.pace).await;
        }
        socket.write_all(&chunk(&content(&format!(" {name}")))).await.ok()?;
    }
    if vendor.dies {
        drop(socket);
        note(|times| &mut times.lost);
        return Some(());
    }
    let stop = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
    let usage =
        json!({ "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 20 } });
    for event in [content(TAIL), stop.to_string(), usage.to_string(), "[DONE]".to_owned()] {
        socket.write_all(&chunk(&event)).await.ok()?;
    }
    socket.write_all(b"0\r\n\r\n").await.ok()
}

/// The scene's number, once the whole request is there.
fn scene_of(request: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(request);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim();
    if body.len() < length.parse().ok()? {
        return None;
    }
    let at = body.find("mark-")? + 5;
    body.get(at..at + 6)?.parse().ok()
}

fn content(text: &str) -> String {
    json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }).to_string()
}

fn chunk(event: &str) -> Vec<u8> {
    let data = format!("data: {event}\n\n");
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}
