//! One measurement of streaming: a fresh relay, one client process, one scene on every stream.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep;

use super::proc::{Process, machine_busy_s};
use super::relay::{Args, Relay, Upstream, Variant};
use super::report::Row;
use crate::client::Mode;
use crate::client::stats::Report;
use crate::upstream::Shape;

/// The scene of every stream before the measured one.
const WARM_UP: Shape = Shape { pace: 0, tokens: 20 };
const SETUP_WITHIN: Duration = Duration::from_secs(900);
/// Beyond the time that the scenes themselves take.
const GRACE: Duration = Duration::from_secs(300);
const SETTLE: Duration = Duration::from_millis(500);
/// Share of late tokens from which a paced run no longer shows what was asked for.
const FULL_MACHINE: f64 = 0.05;

#[derive(Debug, Clone)]
pub struct Plan {
    pub case: String,
    pub mode: Mode,
    pub streams: usize,
    pub shape: Shape,
    pub ramp_ms: u64,
    pub stall_s: Option<u64>,
}

/// Processor time of everything that takes part.
struct Used {
    relay: f64,
    upstream: f64,
    client: f64,
    machine: f64,
}

impl Used {
    fn now(relay: &Process, upstream: &Process, client: &Process) -> anyhow::Result<Self> {
        Ok(Self {
            relay: relay.cpu_s()?,
            upstream: upstream.cpu_s()?,
            client: client.cpu_s()?,
            machine: machine_busy_s()?,
        })
    }
}

pub async fn start_client(
    origin: u64,
    variant: &Variant,
    relay: &Relay,
    plan: &Plan,
) -> anyhow::Result<Process> {
    let target = if *variant == Variant::Bare { "bare" } else { "whatif" };
    let mode = match plan.mode {
        Mode::Warm => "warm",
        Mode::Cold => "cold",
        Mode::Idle => "idle",
        Mode::Sessions => "sessions",
    };
    let mut args: Vec<String> = ["client", &origin.to_string(), "--target", target, "--mode", mode]
        .map(String::from)
        .into();
    let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
    option("--port", relay.port.to_string());
    option("--streams", plan.streams.to_string());
    option("--tokens", plan.shape.tokens.to_string());
    option("--ramp-ms", plan.ramp_ms.to_string());
    if let Some(seconds) = plan.stall_s {
        option("--stall-s", seconds.to_string());
    }
    let mut client =
        Process::role("client", &args, &[("BENCH_TOKENS".into(), relay.tokens.join(","))])?;
    client.answer(SETUP_WITHIN).await.context("setting up")?;
    Ok(client)
}

/// Measures one round.
pub async fn measure(
    origin: u64,
    upstream: &Upstream,
    variant: &Variant,
    servers: &Args,
    plan: &Plan,
    round: usize,
) -> anyhow::Result<Row> {
    upstream.reshape(WARM_UP).await?;
    let relay = Relay::start(variant, servers, upstream.port).await?;
    let mut client = start_client(origin, variant, &relay, plan).await?;
    upstream.reshape(plan.shape).await?;
    sleep(SETTLE).await;

    let before = Used::now(&relay.process, &upstream.process, &client)?;
    client.tell("go").await?;
    let scene_s = u64::from(plan.shape.tokens.checked_div(plan.shape.pace).unwrap_or(0));
    let within = GRACE
        + Duration::from_secs(scene_s + plan.stall_s.unwrap_or(0))
        + Duration::from_millis(plan.ramp_ms);
    let report: Report = serde_json::from_value(client.answer(within).await?)?;
    let after = Used::now(&relay.process, &upstream.process, &client)?;

    let totals = upstream.totals().await?;
    let memory = relay.process.memory()?;
    client.stop().await?;
    relay.stop().await?;
    let relay_s = after.relay - before.relay;
    let upstream_s = after.upstream - before.upstream;
    let client_s = after.client - before.client;
    let tokens = report.tokens.max(1) as f64;
    let figures = BTreeMap::from([
        ("relay_cpu_s_per_mtok", relay_s / tokens * 1e6),
        ("relay_cpu_s", relay_s),
        ("upstream_cpu_s", upstream_s),
        ("client_cpu_s", client_s),
        (
            "others_cpu_s",
            (after.machine - before.machine - relay_s - upstream_s - client_s).max(0.0),
        ),
        ("tokens", report.tokens as f64),
        ("tokens_per_s", tokens / report.wall_s),
        ("tokens_per_message", tokens / report.frames.max(1) as f64),
        ("bytes_per_token", report.bytes as f64 / tokens),
        ("upstream_late_share", totals.late as f64 / totals.tokens.max(1) as f64),
        ("first_text_p50_ms", report.first_text.p50_ms),
        ("first_text_p99_ms", report.first_text.p99_ms),
        ("latency_p50_ms", report.latency.p50_ms),
        ("latency_p99_ms", report.latency.p99_ms),
        ("latency_max_ms", report.latency.max_ms),
        ("wall_s", report.wall_s),
        ("relay_rss_peak_mib", memory.peak_kib as f64 / 1024.0),
    ]);
    let mut faults = report.faults;
    if report.whole != plan.streams as u64 {
        faults.push(format!("{} of {} streams were whole", report.whole, plan.streams));
    }
    let mut notes = Vec::new();
    if totals.late as f64 > totals.tokens as f64 * FULL_MACHINE {
        notes.push("the machine was full: late tokens arrived in bundles, which makes each one cheaper to relay".into());
    }
    notes.extend(report.stalled.map(|reader| {
        format!(
            "the stalled reader then got {} messages, {} bytes; its connection: {}",
            reader.frames, reader.bytes, reader.end
        )
    }));
    Ok(Row {
        case: plan.case.clone(),
        relay: variant.to_string(),
        round,
        figures,
        faults,
        notes: notes.into_iter().collect(),
    })
}
