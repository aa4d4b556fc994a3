//! Memory of relays whose readers want nothing: before they come, while they stay, after they have left.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use super::relay::{Args, Relay, Upstream, Variant};
use super::report::Row;
use super::stream::{Plan, start_client};
use crate::client::Mode;
use crate::upstream::Shape;

const LEAVE_WITHIN: Duration = Duration::from_secs(300);
/// For buffers to be given back, and for what closes lazily to close.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Idle {
    pub case: String,
    /// `Mode::Idle` for sockets alone, `Mode::Sessions` for sockets on sessions.
    pub mode: Mode,
    pub count: usize,
    /// How long they stay, which should hold at least one round of heartbeats.
    pub hold: Duration,
}

pub async fn measure(
    origin: u64,
    upstream: &Upstream,
    variant: &Variant,
    servers: &Args,
    idle: &Idle,
    round: usize,
) -> anyhow::Result<Row> {
    let shape = Shape { pace: 0, tokens: 200 };
    upstream.reshape(shape).await?;
    let relay = Relay::start(variant, servers, upstream.port).await?;
    // One reader first: what a server sets up once is not charged to the rest.
    let plan = |streams| Plan {
        case: idle.case.clone(),
        mode: idle.mode,
        streams,
        shape,
        ramp_ms: 0,
        stall_s: None,
    };
    let mut first = start_client(origin, variant, &relay, &plan(1)).await?;
    first.tell("leave").await?;
    first.answer(LEAVE_WITHIN).await?;
    first.stop().await?;
    sleep(Duration::from_secs(1)).await;

    let before = relay.process.memory()?;
    let before_cpu = relay.process.cpu_s()?;
    let mut client = start_client(origin, variant, &relay, &plan(idle.count)).await?;
    let opening_cpu = relay.process.cpu_s()? - before_cpu;
    sleep(SETTLE).await;
    let held_cpu = relay.process.cpu_s()?;
    sleep(idle.hold).await;
    let held_cpu = relay.process.cpu_s()? - held_cpu;
    let held = relay.process.memory()?;
    client.tell("leave").await?;
    client.answer(LEAVE_WITHIN).await?;
    sleep(SETTLE).await;
    let after = relay.process.memory()?;

    client.stop().await?;
    relay.stop().await?;

    let count = idle.count as f64;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let figures = BTreeMap::from([
        ("rss_before_mib", mib(before.rss_kib)),
        ("rss_held_mib", mib(held.rss_kib)),
        ("rss_peak_mib", mib(held.peak_kib)),
        ("rss_after_mib", mib(after.rss_kib)),
        ("rss_kib_each", held.rss_kib.saturating_sub(before.rss_kib) as f64 / count),
        ("rss_kib_each_kept", after.rss_kib.saturating_sub(before.rss_kib) as f64 / count),
        ("opening_cpu_us_each", opening_cpu / count * 1e6),
        ("held_cpu_us_each_per_min", held_cpu / count / idle.hold.as_secs_f64() * 60.0 * 1e6),
    ]);
    Ok(Row {
        case: idle.case.clone(),
        relay: variant.to_string(),
        round,
        figures,
        faults: Vec::new(),
        notes: Vec::new(),
    })
}
