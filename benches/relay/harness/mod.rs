//! The scenarios: what is measured, in which order, and how it is compared.
//!
//! Rounds are interleaved (A B A B …), each with a relay process of its own, so that a drift of the machine meets all
//! relays alike and nothing of one round is left over in the next.

pub mod idle;
mod proc;
mod relay;
mod report;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::client::Mode;
use crate::upstream::Shape;
use crate::{clock, scene};
use idle::Idle;
use relay::{Upstream, Variant};
use report::{Report, Row};
use stream::Plan;

#[derive(Debug, Clone, Args)]
pub struct Common {
    /// What to measure, the baseline first: `bare`, `whatif[:memory|disk[:<coalesce>]]`.
    #[arg(long, value_delimiter = ',', default_value = "bare,whatif:memory:25ms")]
    relays: Vec<Variant>,
    /// Rounds of every relay.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Folder of the JSON file.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    #[command(flatten)]
    servers: relay::Args,
}

impl Common {
    /// What is missing is said at once, not after the baseline's rounds.
    fn check(&self) -> anyhow::Result<()> {
        let program = &self.servers.whatif;
        let wanted = self.relays.iter().any(|variant| *variant != Variant::Bare);
        anyhow::ensure!(
            !wanted || program.is_file(),
            "{} is missing: `cargo build --release` makes it",
            program.display()
        );
        Ok(())
    }
}

#[derive(Debug, Clone, Args)]
pub struct Streaming {
    #[command(flatten)]
    common: Common,
    /// Streams at the same time; several numbers are measured one after the other.
    #[arg(long, value_delimiter = ',')]
    streams: Option<Vec<usize>>,
    /// Tokens a second in one stream; 0 is as fast as it is read.
    #[arg(long)]
    pace: Option<u32>,
    /// Tokens in a scene.
    #[arg(long)]
    tokens: Option<u32>,
    /// Spreads the starts over this long.
    #[arg(long)]
    ramp_ms: Option<u64>,
    /// Opens sockets (and makes scenarios) within the measurement instead of before it.
    #[arg(long)]
    cold: bool,
}

#[derive(Debug, Clone, Args)]
pub struct Idling {
    #[command(flatten)]
    common: Common,
    /// Sockets or sessions.
    #[arg(long, default_value_t = 10_000)]
    count: usize,
    /// Seconds they stay.
    #[arg(long, default_value_t = 60)]
    hold_s: u64,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Scenario {
    /// CPU per token at a reading pace (200 and 2,000 streams, 50 tokens a second, 20 s).
    Paced(Streaming),
    /// Tokens a second when the upstream never waits (200 streams of 5,000 tokens).
    Saturated(Streaming),
    /// Time to first text (500 streams that start within 5 s).
    Ttft(Streaming),
    /// Memory of sockets with nothing attached (the product's are authenticated).
    IdleSockets(Idling),
    /// Memory of live sessions whose turn is over, each with one socket (the product alone).
    IdleSessions(Idling),
    /// One reader stops reading for a minute beside 100 others.
    Stalled {
        #[command(flatten)]
        streaming: Streaming,
        /// Seconds it does not read.
        #[arg(long, default_value_t = 60)]
        stall_s: u64,
    },
}

/// The common figures of streaming that one relay is held against another by.
const COMPARED: &[&str] = &[
    "relay_cpu_s_per_mtok",
    "tokens_per_s",
    "first_text_p50_ms",
    "first_text_p99_ms",
    "latency_p50_ms",
    "latency_p99_ms",
];

pub async fn run(scenario: Scenario) -> anyhow::Result<()> {
    scene::self_check()?;
    let origin = clock::unix_micros();
    clock::start(origin);
    let upstream = Upstream::start(origin).await?;
    match scenario {
        Scenario::Paced(args) => {
            streaming(
                "paced",
                origin,
                &upstream,
                args,
                &[200, 2000],
                Shape { pace: 50, tokens: 1000 },
                1000,
            )
            .await
        }
        Scenario::Saturated(args) => {
            streaming(
                "saturated",
                origin,
                &upstream,
                args,
                &[200],
                Shape { pace: 0, tokens: 5000 },
                0,
            )
            .await
        }
        Scenario::Ttft(args) => {
            streaming(
                "ttft",
                origin,
                &upstream,
                args,
                &[500],
                Shape { pace: 50, tokens: 100 },
                5000,
            )
            .await
        }
        Scenario::IdleSockets(args) => {
            idling("idle-sockets", origin, &upstream, args, Mode::Idle).await
        }
        Scenario::IdleSessions(mut args) => {
            args.common.relays.retain(|variant| *variant != Variant::Bare);
            idling("idle-sessions", origin, &upstream, args, Mode::Sessions).await
        }
        Scenario::Stalled { streaming, stall_s } => {
            stalled(origin, &upstream, streaming, stall_s).await
        }
    }
}

async fn streaming(
    name: &'static str,
    origin: u64,
    upstream: &Upstream,
    args: Streaming,
    streams: &[usize],
    shape: Shape,
    ramp_ms: u64,
) -> anyhow::Result<()> {
    args.common.check()?;
    let shape = Shape {
        pace: args.pace.unwrap_or(shape.pace),
        tokens: args.tokens.unwrap_or(shape.tokens),
    };
    let mode = if args.cold { Mode::Cold } else { Mode::Warm };
    let mut rows = Vec::new();
    for streams in args.streams.unwrap_or_else(|| streams.to_vec()) {
        let case = format!("{streams} streams");
        let plan = Plan {
            case,
            mode,
            streams,
            shape,
            ramp_ms: args.ramp_ms.unwrap_or(ramp_ms),
            stall_s: None,
        };
        for round in 1..=args.common.rounds {
            for variant in &args.common.relays {
                let row =
                    stream::measure(origin, upstream, variant, &args.common.servers, &plan, round)
                        .await?;
                progress(name, &row, "relay_cpu_s_per_mtok");
                rows.push(row);
            }
        }
    }
    Report::new(name, rows).compare_relays(COMPARED).publish(&args.common.out)
}

async fn idling(
    name: &'static str,
    origin: u64,
    upstream: &Upstream,
    args: Idling,
    mode: Mode,
) -> anyhow::Result<()> {
    args.common.check()?;
    let case =
        format!("{} {}", args.count, if mode == Mode::Idle { "sockets" } else { "sessions" });
    let idle = Idle { case, mode, count: args.count, hold: Duration::from_secs(args.hold_s) };
    let mut rows = Vec::new();
    for round in 1..=args.common.rounds {
        for variant in &args.common.relays {
            let row = idle::measure(origin, upstream, variant, &args.common.servers, &idle, round)
                .await?;
            progress(name, &row, "rss_kib_each");
            rows.push(row);
        }
    }
    Report::new(name, rows).compare_relays(&["rss_kib_each"]).publish(&args.common.out)
}

async fn stalled(
    origin: u64,
    upstream: &Upstream,
    args: Streaming,
    stall_s: u64,
) -> anyhow::Result<()> {
    args.common.check()?;
    let mut servers = args.common.servers.clone();
    // The stalled reader follows other readers' scenarios, which only their owner may.
    servers.users = 1;
    let pace = args.pace.unwrap_or(50);
    let lasting =
        u32::try_from(stall_s).unwrap_or(u32::MAX).saturating_mul(pace).clamp(1, scene::MAX_TOKENS);
    let shape = Shape { pace, tokens: args.tokens.unwrap_or(lasting) };
    let streams = args.streams.and_then(|streams| streams.first().copied()).unwrap_or(100);
    let plan = |case: &str, stall_s| {
        let ramp_ms = args.ramp_ms.unwrap_or(1000);
        Plan {
            case: format!("{streams} streams, {case}"),
            mode: Mode::Warm,
            streams,
            shape,
            ramp_ms,
            stall_s,
        }
    };
    let plans = [plan("all reading", None), plan("one more stalled", Some(stall_s))];
    let mut rows = Vec::new();
    for round in 1..=args.common.rounds {
        for variant in &args.common.relays {
            for plan in &plans {
                let row = stream::measure(origin, upstream, variant, &servers, plan, round).await?;
                progress("stalled", &row, "tokens_per_s");
                rows.push(row);
            }
        }
    }
    let figures = [COMPARED, &["relay_rss_peak_mib"]].concat();
    Report::new("stalled", rows).compare_cases(&figures).publish(&args.common.out)
}

fn progress(name: &str, row: &Row, figure: &str) {
    let value = row.figures.get(figure).copied().unwrap_or_default();
    eprintln!("{name}: {}, {}, round {}: {figure} {value:.2}", row.case, row.relay, row.round);
}
