//! What 1, 2 and 3 replicas deliver together, and what they and Redis spend on it.
//!
//! Stories are spread evenly over the replicas, and so are the readers of each, regardless of who owns it: as behind a
//! balancer that knows nothing of scenarios. Figures are of a window in which all stories are being told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Common;
use crate::proc::{cpu_of, machine_busy_s};
use crate::redis::{Counts, Redis};
use crate::report::{Report, Row};
use crate::turn::{Shared, Turn, lock};
use crate::upstream::Shape;
use crate::watch::Watcher;
use crate::world::{Cluster, World, load};

const WARM_UP: Shape = Shape { pace: 0, tokens: 20 };
/// Stories being set up at the same time.
const OPENING: usize = 16;
/// Starts are spread over this long.
const RAMP: Duration = Duration::from_secs(1);
/// Between the last start and the window, and again after it.
const MARGIN: Duration = Duration::from_secs(1);
/// Share of late tokens from which the machine, and not what was asked for, sets the pace.
const FULL_MACHINE: f64 = 0.05;

#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Numbers of replicas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    replicas: Vec<usize>,
    /// Stories told at the same time; several numbers are measured one after the other. 0 measures idle replicas.
    #[arg(long, value_delimiter = ',', default_values_t = [50, 400])]
    streams: Vec<usize>,
    /// Sockets on each story.
    #[arg(long, default_value_t = 2)]
    readers: usize,
    /// Tokens a second in one story.
    #[arg(long, default_value_t = 50)]
    pace: u32,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 8)]
    window_s: u32,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What arrived so far.
#[derive(Default)]
struct Arrived {
    /// Deltas at all readers.
    delivered: AtomicU64,
    /// Deltas at the first reader of each story: as many as were logged.
    logged: AtomicU64,
}

/// Everything that is read at both ends of the window.
struct Sample {
    at: Instant,
    delivered: u64,
    logged: u64,
    redis: Counts,
    replicas: Vec<f64>,
    upstream: f64,
    readers: f64,
    machine: f64,
}

pub async fn run(origin: u64, args: Args) -> anyhow::Result<()> {
    let world = World::start(origin, &args.common, "25ms", &[]).await?;
    let mut redis = Redis::connect(&world.redis_url).await?;
    let mut rows = Vec::new();
    for &streams in &args.streams {
        for round in 1..=args.rounds {
            for &replicas in &args.replicas {
                let row = measure(&world, &mut redis, &args, streams, replicas, round).await;
                let row = row.with_context(|| format!("{streams} stories, {replicas} replicas"))?;
                eprintln!(
                    "capacity: {}, {}: {:?} {:?}",
                    row.case, row.relay, row.figures, row.notes
                );
                rows.push(row);
            }
        }
    }
    let compared = ["deltas_per_s", "replicas_cpu_us_per_delta", "redis_cpu_us_per_delta"];
    Report::new("capacity", rows).compare_relays(&compared).publish(&args.common.out)
}

async fn measure(
    world: &World,
    redis: &mut Redis,
    args: &Args,
    streams: usize,
    replicas: usize,
    round: usize,
) -> anyhow::Result<Row> {
    let window = Duration::from_secs(args.window_s.into());
    let told_s = (RAMP + MARGIN * 2 + window).as_secs_f64();
    let shape = Shape { pace: args.pace, tokens: (told_s * f64::from(args.pace)) as u32 };
    world.upstream.reshape(WARM_UP).await?;
    let cluster = world.cluster(replicas).await?;
    let opening = (0..streams).map(|index| open(&cluster, args.readers, index));
    let stories: Vec<Vec<Watcher>> =
        stream::iter(opening).buffer_unordered(OPENING).try_collect().await?;
    world.upstream.reshape(shape).await?;

    let (arrived, stats) = (Arc::new(Arrived::default()), Shared::default());
    let mut reading = JoinSet::new();
    for (index, story) in stories.into_iter().enumerate() {
        let start = RAMP.mul_f64(index as f64 / streams as f64);
        for (number, watcher) in story.into_iter().enumerate() {
            let start = (number == 0).then_some(start);
            let reader = (Arc::clone(&arrived), Arc::clone(&stats));
            reading.spawn(read(watcher, start, reader, shape.tokens));
        }
    }
    let sockets = reading.len();
    sleep(RAMP + MARGIN).await;
    let before = Sample::take(world, redis, &cluster, &arrived).await?;
    sleep(window).await;
    let after = Sample::take(world, redis, &cluster, &arrived).await?;
    let mut faults = Vec::new();
    while let Some(ended) = reading.join_next().await {
        if let Err(error) = ended.map_err(anyhow::Error::from).flatten() {
            faults.push(format!("{error:#}"));
        }
    }
    faults.truncate(5);
    let late = world.upstream.totals().await?;
    let late = late.late as f64 / late.tokens.max(1) as f64;
    cluster.stop().await?;

    let (mut figures, mut notes) = after.since(&before);
    let latency = lock(&stats).latency.quantiles();
    figures.extend([
        ("latency_p50_ms", latency.p50_ms),
        ("latency_p99_ms", latency.p99_ms),
        ("sockets", sockets as f64),
        ("upstream_late_share", late),
        ("load_1m", load()?),
    ]);
    if late > FULL_MACHINE {
        notes.push("the machine was full".into());
    }
    let case =
        format!("{streams} stories at {} tokens/s, {} readers each", args.pace, args.readers);
    Ok(Row { case, relay: format!("{replicas} replica(s)"), round, figures, faults, notes })
}

/// One story with its readers, all of whom have read a first scene.
async fn open(cluster: &Cluster, readers: usize, index: usize) -> anyhow::Result<Vec<Watcher>> {
    let count = cluster.replicas.len();
    let at = |number: usize| &cluster.replicas[number % count].api;
    let scenario = at(index).create(index).await?;
    let mut story = Vec::new();
    for number in 0..readers {
        // Every distance from the owner is as frequent as any other.
        let api = at(index + index / count + number);
        let mut watcher = Watcher::open(api, &scenario, index * readers + number, index).await?;
        watcher.turn(|_| Ok(())).await?;
        story.push(watcher);
    }
    Ok(story)
}

/// Reads one scene to its end; whoever is told when to start asks for it, and counts what was logged.
async fn read(
    mut watcher: Watcher,
    start: Option<Duration>,
    (arrived, stats): (Arc<Arrived>, Shared),
    tokens: u32,
) -> anyhow::Result<()> {
    if let Some(start) = start {
        sleep(start).await;
        watcher.choose().await?;
    }
    let mut turn = Turn::begin(&stats, tokens);
    let read = watcher.turn(|seen| {
        let Some(text) = seen.text else { return Ok(()) };
        let deltas = seen.to - seen.from + 1;
        arrived.delivered.fetch_add(deltas, Relaxed);
        if start.is_some() {
            arrived.logged.fetch_add(deltas, Relaxed);
        }
        turn.text(text)
    });
    read.await?;
    turn.finish("")
}

impl Sample {
    async fn take(
        world: &World,
        redis: &mut Redis,
        cluster: &Cluster,
        arrived: &Arrived,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            delivered: arrived.delivered.load(Relaxed),
            logged: arrived.logged.load(Relaxed),
            redis: redis.counts().await?,
            replicas: cluster.replicas.iter().map(|r| r.cpu_s()).collect::<Result<_, _>>()?,
            upstream: world.upstream.process.cpu_s()?,
            readers: cpu_of(std::process::id())?,
            machine: machine_busy_s()?,
        })
    }

    /// Figures of the window, and what fits into no column.
    fn since(&self, before: &Self) -> (BTreeMap<&'static str, f64>, Vec<String>) {
        let wall = (self.at - before.at).as_secs_f64();
        let logged_in_all = (self.logged - before.logged) as f64;
        // Of idle replicas, what is said of each delta means nothing.
        let logged = logged_in_all.max(1.0);
        let delivered = (self.delivered - before.delivered) as f64;
        let redis = self.redis.since(&before.redis);
        let each: Vec<f64> = self
            .replicas
            .iter()
            .zip(&before.replicas)
            .map(|(after, before)| after - before)
            .collect();
        let replicas: f64 = each.iter().sum();
        let (upstream, readers) = (self.upstream - before.upstream, self.readers - before.readers);
        let machine = self.machine - before.machine;
        let figures = BTreeMap::from([
            ("deltas_per_s", delivered / wall),
            ("logged_per_s", logged_in_all / wall),
            ("replicas_cpus", replicas / wall),
            ("replicas_cpu_us_per_delta", replicas / logged * 1e6),
            ("redis_cpus", redis.cpu_s / wall),
            ("redis_cpu_us_per_delta", redis.cpu_s / logged * 1e6),
            ("redis_commands_per_1000", redis.total() / logged * 1e3),
            ("redis_commands_per_s", redis.total() / wall),
            ("upstream_cpus", upstream / wall),
            ("readers_cpus", readers / wall),
            (
                "others_cpus",
                (machine - replicas - redis.cpu_s - upstream - readers).max(0.0) / wall,
            ),
        ]);
        let cpus: Vec<_> = each.iter().map(|cpu| format!("{:.2}", cpu / wall)).collect();
        let mut calls: Vec<_> = redis.calls.iter().collect();
        calls.sort_by(|one, other| other.1.total_cmp(one.1));
        let calls: Vec<_> = calls
            .iter()
            .map(|(command, count)| format!("{command} {:.0}", **count / logged * 1e3))
            .collect();
        let notes = vec![
            format!("CPUs of each replica: {}", cpus.join(", ")),
            format!("commands for 1,000 deltas: {}", calls.join(", ")),
        ];
        (figures, notes)
    }
}
