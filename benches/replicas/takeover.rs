//! A turn whose owner goes away in its middle, killed or drained, and what a reader at another replica sees of it.
//!
//! The storyteller writes, at a pace that tells owners apart and without a call to anybody: what is timed is the product
//! alone. When the pen changed hands is read from Redis, so that the last delta of the old owner and the first one of
//! the new are known and not guessed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::redis::{Change, Redis};
use crate::report::{Report, Row};
use crate::watch::Watcher;
use crate::world::{Cluster, World, load};
use crate::{Common, clock};

/// Deltas before the owner goes away; of about forty.
const BEFORE: std::ops::Range<usize> = 5..16;
/// Longest for a turn with all that happens to it.
const PATIENCE: Duration = Duration::from_secs(60);
/// A scene of about 110 words then lasts long enough to lose its owner in the middle, also on a busy machine.
const WORDS_PER_SECOND: u32 = 40;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Turns, each of which loses its owner.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `kill -9`: the lease has to run out.
    Killed,
    /// SIGTERM: the owner hands its sessions over.
    Drained,
}

impl End {
    const fn title(self) -> &'static str {
        match self {
            End::Killed => "takeover",
            End::Drained => "handover",
        }
    }
}

pub async fn run(origin: u64, end: End, args: Args) -> anyhow::Result<()> {
    let env = [
        "WHATIF__PROVIDERS__TEXT=storyteller".to_owned(),
        format!("WHATIF__PROVIDERS__STORYTELLER__WORDS_PER_SECOND={WORDS_PER_SECOND}"),
    ];
    let world = World::start(origin, &args.common, "25ms", &env).await?;
    let redis = Redis::connect(&world.redis_url).await?;
    let mut cluster = world.cluster(2).await?;
    let mut rows = Vec::new();
    for round in 1..=args.rounds {
        let row = measure(&world, &redis, &mut cluster, end, round).await;
        let row = row.with_context(|| format!("round {round}"))?;
        eprintln!("{}: round {round}: {:?}", end.title(), row.figures);
        rows.push(row);
    }
    cluster.stop().await?;
    Report::new(end.title(), rows).publish(&args.common.out)
}

/// The cluster's first replica begins a turn and goes away; its second one carries on, and a fresh one takes the place.
async fn measure(
    world: &World,
    redis: &Redis,
    cluster: &mut Cluster,
    end: End,
    round: usize,
) -> anyhow::Result<Row> {
    let scenario = cluster.replicas[0].api.create(round).await?;
    let mut watcher = Watcher::open(&cluster.replicas[1].api, &scenario, round, round).await?;
    let pen = tokio::spawn(redis.clone().pen(cluster.prefix.clone(), scenario));
    let (count, mut counted) = watch::channel(0);
    let reading = tokio::spawn(async move {
        let mut deltas = Vec::new();
        let read = watcher.turn(|seen| {
            if seen.text.is_some() {
                deltas.push(seen.at);
                count.send_replace(deltas.len());
            }
            Ok(())
        });
        read.await.map(|()| deltas)
    });
    let before = rand::rng().random_range(BEFORE);
    let begun = timeout(PATIENCE, counted.wait_for(|count| *count >= before)).await;
    if !matches!(begun, Ok(Ok(_))) {
        drop(begun);
        reading.await??;
        bail!("the turn was over before {before} deltas");
    }
    drop(begun);

    let ended = clock::micros();
    let owner = cluster.replicas.remove(0);
    let leaving = match end {
        End::Killed => {
            owner.kill().await?;
            None
        }
        End::Drained => {
            owner.terminate().await?;
            Some(owner)
        }
    };
    let change = timeout(PATIENCE, pen).await.context("nobody took the turn over")???;
    let deltas = timeout(PATIENCE, reading).await.context("the turn did not end")???;
    if let Some(owner) = leaving {
        owner.kill().await?;
    }
    let replica = world.replica(&cluster.prefix).await?;
    cluster.replicas.push(replica);
    Ok(Row {
        case: match end {
            End::Killed => "kill -9 in the middle of a turn".into(),
            End::Drained => "SIGTERM in the middle of a turn".into(),
        },
        relay: "2 replicas".into(),
        round,
        figures: figures(world.origin, end, ended, change, &deltas)?,
        faults: Vec::new(),
        notes: Vec::new(),
    })
}

fn figures(
    origin: u64,
    end: End,
    ended: u64,
    change: Change,
    deltas: &[u64],
) -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let last = deltas.iter().rfind(|at| **at <= change.at).context("no delta of the old owner")?;
    let first = deltas.iter().find(|at| **at > change.at).context("no delta of the new owner")?;
    let ms = |from: u64, to: u64| (to as f64 - from as f64) / 1e3;
    let mut usual: Vec<u64> = deltas.windows(2).map(|pair| pair[1] - pair[0]).collect();
    usual.sort_unstable();
    let mut figures = BTreeMap::from([
        ("silence_ms", ms(*last, *first)),
        ("usual_ms", usual[usual.len() / 2] as f64 / 1e3),
        ("signal_to_pen_ms", ms(ended, change.at)),
        ("signal_to_delta_ms", ms(ended, *first)),
        ("pen_to_delta_ms", ms(change.at, *first)),
        ("load_1m", load()?),
    ]);
    if end == End::Killed {
        // Redis reads the same wall clock.
        let expired = (change.lease_end * 1000).saturating_sub(origin);
        figures.insert("lease_left_ms", ms(ended, expired));
        figures.insert("expiry_to_delta_ms", ms(expired, *first));
    }
    Ok(figures)
}
