//! How much later an event is shown by a replica that does not own the session than by the one that does.
//!
//! Every story has two readers, one at its owner and one at the other replica. Both are read by this process, and each
//! event's two arrivals are subtracted: whatever slows both down falls out.

use std::collections::BTreeMap;

use anyhow::Context;
use futures::future::{try_join, try_join_all};

use crate::Common;
use crate::report::{Report, Row};
use crate::stats::Stats;
use crate::turn::{Shared, Turn, lock};
use crate::upstream::Shape;
use crate::watch::Watcher;
use crate::world::{World, load};

/// The scene of every story before the measured one.
const WARM_UP: Shape = Shape { pace: 0, tokens: 20 };

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Stories at the same time; several numbers are measured one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50])]
    streams: Vec<usize>,
    /// Tokens a second in one story.
    #[arg(long, default_value_t = 50)]
    pace: u32,
    /// Tokens in a scene.
    #[arg(long, default_value_t = 500)]
    tokens: u32,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// When each delta arrived, by its number.
type Arrivals = BTreeMap<u64, u64>;

pub async fn run(origin: u64, args: Args) -> anyhow::Result<()> {
    let world = World::start(origin, &args.common, "25ms", &[]).await?;
    let mut rows = Vec::new();
    for &streams in &args.streams {
        for round in 1..=args.rounds {
            let row = measure(&world, &args, streams, round).await;
            let row = row.with_context(|| format!("{streams} stories, round {round}"))?;
            eprintln!("delivery: {}, round {round}: {:?}", row.case, row.figures);
            rows.push(row);
        }
    }
    Report::new("delivery", rows).publish(&args.common.out)
}

async fn measure(world: &World, args: &Args, streams: usize, round: usize) -> anyhow::Result<Row> {
    let shape = Shape { pace: args.pace, tokens: args.tokens };
    world.upstream.reshape(WARM_UP).await?;
    let cluster = world.cluster(2).await?;
    let [owner, other] = [0, 1].map(|number| &cluster.replicas[number].api);
    let mut pairs = Vec::new();
    for index in 0..streams {
        let scenario = owner.create(index).await?;
        let mut local = Watcher::open(owner, &scenario, index, index).await?;
        let mut remote = Watcher::open(other, &scenario, index, index).await?;
        try_join(local.turn(|_| Ok(())), remote.turn(|_| Ok(()))).await?;
        pairs.push((local, remote));
    }
    world.upstream.reshape(shape).await?;
    let (near, far) = (Shared::default(), Shared::default());
    let reading = pairs.into_iter().map(async |(mut local, mut remote)| {
        local.choose().await?;
        let local = read(&mut local, &near, args.tokens);
        try_join(local, read(&mut remote, &far, args.tokens)).await
    });
    let arrivals = try_join_all(reading).await?;
    let totals = world.upstream.totals().await?;
    cluster.stop().await?;

    let mut later = Vec::new();
    for (local, remote) in &arrivals {
        for (seq, there) in remote {
            let here = local.get(seq).with_context(|| format!("event {seq} came to one reader"))?;
            later.push((*there as f64 - *here as f64) / 1e3);
        }
    }
    later.sort_by(f64::total_cmp);
    let quantile = |share: f64| later[((later.len() - 1) as f64 * share).round() as usize];
    let (near, far) = (quantiles(&lock(&near)), quantiles(&lock(&far)));
    let figures = BTreeMap::from([
        ("later_p50_ms", quantile(0.5)),
        ("later_p90_ms", quantile(0.9)),
        ("later_p99_ms", quantile(0.99)),
        ("later_max_ms", quantile(1.0)),
        ("owner_p50_ms", near.0),
        ("owner_p99_ms", near.1),
        ("other_p50_ms", far.0),
        ("other_p99_ms", far.1),
        ("deltas", later.len() as f64),
        ("upstream_late_share", totals.late as f64 / totals.tokens.max(1) as f64),
        ("load_1m", load()?),
    ]);
    Ok(Row {
        case: format!("{streams} stories at {} tokens/s", args.pace),
        relay: "other replica - owner".into(),
        round,
        figures,
        faults: Vec::new(),
        notes: Vec::new(),
    })
}

async fn read(watcher: &mut Watcher, stats: &Shared, tokens: u32) -> anyhow::Result<Arrivals> {
    let mut arrivals = Arrivals::new();
    let mut turn = Turn::begin(stats, tokens);
    let read = watcher.turn(|seen| {
        let Some(text) = seen.text else { return Ok(()) };
        arrivals.extend((seen.from..=seen.to).map(|seq| (seq, seen.at)));
        turn.text(text)
    });
    read.await?;
    turn.finish("")?;
    Ok(arrivals)
}

/// From a word's sending to its arrival: p50 and p99, in milliseconds.
fn quantiles(stats: &Stats) -> (f64, f64) {
    let latency = stats.latency.quantiles();
    (latency.p50_ms, latency.p99_ms)
}
