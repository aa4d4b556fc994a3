//! The readers of one run: a process on one thread that opens sockets to a relay, checks every word and reports.
//!
//! The harness drives it with lines on standard input: after `{"ready":…}` it waits for `go`, answers with its report,
//! and lets its sockets go at `leave` or at the end of input.

mod bare;
mod link;
pub mod stats;
mod turn;
mod whatif;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use link::{Link, Open};
use stats::Stalled;
use turn::{Shared, Turn, lock};
use whatif::{Api, Reader};

/// Sockets and scenarios being set up at the same time.
const OPENING: usize = 32;
/// Scenarios that the stalled reader is attached to: the product's limit for one socket.
const STALLED_ATTACHMENTS: usize = 32;
const STALLED_RECEIVE_BUFFER: u32 = 4096;
/// The stalled reader has caught up when nothing came for this long.
const QUIET: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    Bare,
    Whatif,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Sockets are open and have had a scene; `go` asks for the next.
    Warm,
    /// `go` opens the sockets and makes the scenarios too.
    Cold,
    /// Sockets with nothing attached.
    Idle,
    /// Sockets each attached to a scenario whose turn is over.
    Sessions,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[arg(long)]
    pub target: Target,
    #[arg(long)]
    pub mode: Mode,
    #[arg(long)]
    pub port: u16,
    #[arg(long)]
    pub streams: usize,
    /// Words in each scene after `go`.
    #[arg(long, default_value_t = 0)]
    pub tokens: u32,
    /// Spreads the starts evenly over this long.
    #[arg(long, default_value_t = 0)]
    pub ramp_ms: u64,
    /// One more reader stops reading for this long.
    #[arg(long)]
    pub stall_s: Option<u64>,
    /// Comma-separated access tokens.
    #[arg(
        long,
        env = "BENCH_TOKENS",
        hide_env_values = true,
        default_value = "",
        value_delimiter = ','
    )]
    pub users: Vec<String>,
}

/// One open socket, ready for its next scene.
struct Stream {
    link: Link,
    reader: Option<Reader>,
}

/// Open sockets that want nothing any more.
struct Held {
    leave: CancellationToken,
    sockets: JoinSet<()>,
}

struct Client {
    args: Args,
    api: Api,
    stats: Shared,
}

pub async fn run(args: Args) -> anyhow::Result<()> {
    let api =
        Api { http: reqwest::Client::new(), port: args.port, tokens: Arc::new(args.users.clone()) };
    let client = Arc::new(Client { args, api, stats: Shared::default() });
    let mut input = BufReader::new(stdin()).lines();
    let streams = if client.args.mode == Mode::Cold { Vec::new() } else { client.set_up().await? };
    let stalled = match client.args.stall_s {
        Some(seconds) => Some((client.open_stalled(&streams).await?, Duration::from_secs(seconds))),
        None => None,
    };
    println!("{}", json!({ "ready": streams.len() }));
    let mut held = match client.args.mode {
        Mode::Warm | Mode::Cold => {
            expect_line(&mut input, "go").await?;
            let held = client.stream(streams, stalled).await;
            println!("{}", serde_json::to_string(&held.0)?);
            held.1
        }
        Mode::Idle | Mode::Sessions => Client::hold(streams),
    };
    expect_line(&mut input, "leave").await?;
    held.leave.cancel();
    while held.sockets.join_next().await.is_some() {}
    println!("{}", json!({ "left": true }));
    // The harness looks at the relay after its readers have left; the process must not end before that.
    while input.next_line().await?.is_some() {}
    Ok(())
}

async fn expect_line(input: &mut Lines<BufReader<Stdin>>, wanted: &str) -> anyhow::Result<()> {
    let line = input.next_line().await?.context("the harness went away")?;
    ensure!(line == wanted, "expected `{wanted}` but was told `{line}`");
    Ok(())
}

impl Client {
    async fn set_up(self: &Arc<Self>) -> anyhow::Result<Vec<Stream>> {
        let opening = (0..self.args.streams).map(|index| {
            let client = Arc::clone(self);
            async move { client.open(index).await.with_context(|| format!("socket {index}")) }
        });
        stream::iter(opening).buffer_unordered(OPENING).try_collect().await
    }

    async fn open(&self, index: usize) -> anyhow::Result<Stream> {
        let bare = |path| Open {
            port: self.args.port,
            path,
            subprotocol: None,
            index,
            receive_buffer: None,
        };
        Ok(match (self.args.target, self.args.mode) {
            (Target::Bare, Mode::Idle) => {
                Stream { link: Link::open(bare("/idle")).await?, reader: None }
            }
            (Target::Bare, Mode::Cold) => {
                Stream { link: Link::open(bare("/ws")).await?, reader: None }
            }
            (Target::Bare, Mode::Warm | Mode::Sessions) => {
                let mut link = Link::open(bare("/turn")).await?;
                link.send("go").await?;
                while link.receive().await?.as_str() != "[DONE]" {}
                Stream { link, reader: None }
            }
            (Target::Whatif, Mode::Idle) => {
                Stream { link: self.api.open(index, index, None).await?, reader: None }
            }
            (Target::Whatif, mode) => {
                let scenario = self.api.create(index).await?;
                let mut link = self.api.open(index, index, None).await?;
                whatif::attach(&mut link, &scenario).await?;
                let mut reader = Reader::new(scenario);
                if mode != Mode::Cold {
                    reader.read(&mut link, None).await.context("the first scene")?;
                }
                Stream { link, reader: Some(reader) }
            }
        })
    }

    /// Runs all streams to their end and reports; the sockets stay open.
    async fn stream(
        self: &Arc<Self>,
        streams: Vec<Stream>,
        stalled: Option<(Link, Duration)>,
    ) -> (stats::Report, Held) {
        let began = Instant::now();
        let gap = Duration::from_millis(self.args.ramp_ms)
            / u32::try_from(self.args.streams.max(1)).unwrap_or(u32::MAX);
        let mut waiting: Vec<Option<Stream>> = streams.into_iter().map(Some).collect();
        waiting.resize_with(self.args.streams, || None);
        let mut running = JoinSet::new();
        for (index, stream) in waiting.into_iter().enumerate() {
            let client = Arc::clone(self);
            running.spawn(async move {
                sleep(gap * u32::try_from(index).unwrap_or(u32::MAX)).await;
                client.turn(index, stream).await
            });
        }
        let stalled =
            stalled.map(|(link, pause)| tokio::spawn(stall(link, pause, self.args.target)));
        let mut streams = Vec::new();
        while let Some(ended) = running.join_next().await {
            match ended.map_err(anyhow::Error::from).flatten() {
                Ok(stream) => streams.push(stream),
                Err(error) => lock(&self.stats).fault(&error),
            }
        }
        let wall = began.elapsed().as_secs_f64();
        if let Some(stalled) = stalled {
            lock(&self.stats).stalled = stalled.await.ok();
        }
        (lock(&self.stats).report(wall), Self::hold(streams))
    }

    async fn turn(&self, index: usize, stream: Option<Stream>) -> anyhow::Result<Stream> {
        let mut turn = Turn::begin(&self.stats, self.args.tokens);
        let mut stream = match stream {
            Some(mut stream) => {
                match &stream.reader {
                    Some(reader) => reader.choose(&mut stream.link).await?,
                    None => stream.link.send("go").await?,
                }
                stream
            }
            None => self.open(index).await?,
        };
        let read = match &mut stream.reader {
            Some(reader) => reader.read(&mut stream.link, Some(&mut turn)).await,
            None => bare::read(&mut stream.link, &mut turn).await,
        };
        read.with_context(|| format!("stream {index}"))?;
        Ok(stream)
    }

    /// Keeps reading, so that pings are answered, until told to leave.
    fn hold(streams: Vec<Stream>) -> Held {
        let mut held = Held { leave: CancellationToken::new(), sockets: JoinSet::new() };
        for Stream { mut link, .. } in streams {
            let leave = held.leave.clone();
            held.sockets.spawn(async move {
                tokio::select! {
                    () = leave.cancelled() => link.close().await,
                    () = async { while link.wait().await.is_ok() {} } => {}
                }
            });
        }
        held
    }

    async fn open_stalled(&self, streams: &[Stream]) -> anyhow::Result<Link> {
        let index = self.args.streams;
        if self.args.target == Target::Bare {
            let open = Open {
                port: self.args.port,
                path: "/turn",
                subprotocol: None,
                index,
                receive_buffer: Some(STALLED_RECEIVE_BUFFER),
            };
            return Link::open(open).await;
        }
        // Streams were set up out of order, and only its owner may attach: all scenarios are one user's here.
        ensure!(self.args.users.len() == 1, "a stalled reader wants exactly one user");
        let mut link = self.api.open(index, 0, Some(STALLED_RECEIVE_BUFFER)).await?;
        for scenario in
            streams.iter().filter_map(|stream| stream.reader.as_ref()).take(STALLED_ATTACHMENTS)
        {
            whatif::attach(&mut link, &scenario.scenario).await?;
            // Within the server's limit of commands a second.
            sleep(Duration::from_millis(150)).await;
        }
        Ok(link)
    }
}

/// Lets a connection lie unread, then reads what is left of it.
async fn stall(mut link: Link, pause: Duration, target: Target) -> Stalled {
    let mut seen = Stalled { bytes: 0, frames: 0, end: "open and caught up".into() };
    if target == Target::Bare
        && let Err(error) = link.send("go").await
    {
        seen.end = format!("{error:#}");
        return seen;
    }
    sleep(pause).await;
    loop {
        match tokio::time::timeout(QUIET, link.wait()).await {
            Ok(Ok(message)) => {
                seen.frames += 1;
                seen.bytes += message.len() as u64;
            }
            Ok(Err(error)) => {
                seen.end = format!("{error:#}");
                return seen;
            }
            Err(_) => return seen,
        }
    }
}
