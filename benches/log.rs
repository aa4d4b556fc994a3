//! What logging a delta costs: appending it, waking its reader, reading it back.
//!
//! `cargo bench --bench log -- --redis redis://127.0.0.1:6379` lets many logs be written and read at the same time, in
//! lockstep: each writer appends one delta when its reader has read the one before. Ways: the event log in memory, on
//! disk and on Redis; and Redis without a log, which is `XADD` and `PUBLISH` in one pipeline, a subscription and
//! `XRANGE` with the same bytes on the same client library: no lease, no fence, no number, no end of life. Ways take
//! turns within a round. docs/BENCHMARKS.md has the figures and how to read them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use async_trait::async_trait;
use clap::Parser;
use futures::future::try_join_all;
use jiff::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::streams::StreamRangeReply;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, Value};
use tokio::sync::{Notify, mpsc};
use uuid::Uuid;
use whatif::config;
use whatif::domain::event::{Event, Frame};
use whatif::domain::ids::{ScenarioId, TurnId};
use whatif::storage::embedded::{DiskLog, MemoryLog};
use whatif::storage::log::{Batch, Claim, Fence, LogStore, News, Origin};
use whatif::storage::redis::{Redis, RedisLog, Subscriptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNTIME_THREADS: usize = 2;
/// What the kernel counts CPU time in.
const TICKS_PER_SECOND: f64 = 100.0;
const TTL: Duration = Duration::from_secs(600);
/// Longest wait for an answer, on a machine that is kept busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// As a reader's page.
const PAGE_BYTES: usize = 64 * 1024;

#[derive(Debug, Parser)]
#[command(name = "log", about = "What logging a delta costs")]
struct Cli {
    /// Logs written and read at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 512])]
    logs: Vec<usize>,
    /// Deltas of one measurement, over all logs.
    #[arg(long, default_value_t = 20_000)]
    deltas: usize,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A Redis to measure on; without it the embedded logs alone are measured.
    #[arg(long)]
    redis: Option<String>,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One log with its reader.
#[async_trait]
trait Pair: Send + Sync {
    async fn append(&self, seq: u64, frame: Frame) -> anyhow::Result<()>;
    /// Waits for news and reads what is there after `after`; the newest `seq` read.
    async fn read(&self, after: u64) -> anyhow::Result<u64>;
}

struct Logged {
    writer: Arc<dyn LogStore>,
    reader: Arc<dyn LogStore>,
    scenario: ScenarioId,
    fence: Fence,
    /// Absent where the appending process wakes its readers itself.
    news: Option<News>,
    appended: Notify,
}

#[async_trait]
impl Pair for Logged {
    async fn append(&self, seq: u64, frame: Frame) -> anyhow::Result<()> {
        let batch = Batch { first_seq: seq, frames: vec![frame], ..Batch::default() };
        self.writer.append(self.scenario, self.fence, batch).await?;
        self.appended.notify_one();
        Ok(())
    }

    async fn read(&self, after: u64) -> anyhow::Result<u64> {
        match &self.news {
            Some(news) => news.wait().await,
            None => self.appended.notified().await,
        }
        let page = self.reader.read(self.scenario, after, PAGE_BYTES).await?;
        Ok(page.context("the log is gone")?.frames.last().map_or(after, |(seq, _)| *seq))
    }
}

struct Bare {
    server: MultiplexedConnection,
    stream: String,
    channel: String,
    bell: Arc<Notify>,
    /// Held for as long as news are wanted.
    _subscriber: MultiplexedConnection,
}

#[async_trait]
impl Pair for Bare {
    async fn append(&self, seq: u64, frame: Frame) -> anyhow::Result<()> {
        let mut both = redis::pipe();
        let id = format!("{seq}-0");
        both.cmd("XADD").arg(&self.stream).arg(id).arg("e").arg(&frame.bytes()[..]).ignore();
        both.cmd("PUBLISH").arg(&self.channel).arg(seq).ignore();
        Ok(both.query_async(&mut self.server.clone()).await?)
    }

    async fn read(&self, after: u64) -> anyhow::Result<u64> {
        self.bell.notified().await;
        let mut range = redis::cmd("XRANGE");
        range.arg(&self.stream).arg(format!("{}-0", after + 1)).arg("+").arg("COUNT").arg(64);
        let page: StreamRangeReply = range.query_async(&mut self.server.clone()).await?;
        let Some(last) = page.ids.last() else { return Ok(after) };
        let (seq, _) = last.id.split_once('-').context("an entry's id")?;
        Ok(seq.parse()?)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Memory,
    Disk,
    Bare,
    Redis,
}

impl Way {
    const fn title(self) -> &'static str {
        match self {
            Way::Memory => "log in memory",
            Way::Disk => "log on disk",
            Way::Bare => "bare Redis",
            Way::Redis => "log on Redis",
        }
    }

    /// Commands that count as sent.
    const fn sends(self) -> &'static [&'static str] {
        match self {
            Way::Memory | Way::Disk => &[],
            Way::Bare => &["xadd", "publish", "xrange"],
            Way::Redis => &["evalsha"],
        }
    }

    async fn pairs(
        self,
        count: usize,
        cli: &Cli,
        folder: &std::path::Path,
    ) -> anyhow::Result<Vec<Arc<dyn Pair>>> {
        let (writer, reader): (Arc<dyn LogStore>, Arc<dyn LogStore>) = match self {
            Way::Bare => return bare(count, url(cli)?).await,
            Way::Memory => {
                let log = Arc::new(MemoryLog::shared());
                (Arc::clone(&log) as _, log)
            }
            Way::Disk => {
                let log = Arc::new(DiskLog::open(folder)?);
                (Arc::clone(&log) as _, log)
            }
            // The handle of one replica that writes, and that of one that reads, as the bare way has it.
            Way::Redis => {
                let config = config::Redis {
                    url: Some(url(cli)?.into()),
                    prefix: prefix(),
                    response_timeout: PATIENCE,
                    ..config::Redis::default()
                };
                let redis = Redis::connect(&config).await?;
                let subscriptions = Subscriptions::start(&redis);
                let log = Arc::new(RedisLog::new(redis, subscriptions, TTL));
                (Arc::clone(&log) as _, log)
            }
        };
        let mut pairs: Vec<Arc<dyn Pair>> = Vec::new();
        for _ in 0..count {
            let scenario = ScenarioId::new(Timestamp::UNIX_EPOCH);
            let Claim::Granted(lease) = writer.claim(scenario, "bench", TTL, Origin::New).await?
            else {
                bail!("held")
            };
            let news = reader.follow(scenario);
            if self == Way::Redis
                && let Some(news) = &news
            {
                news.wait().await; // subscribed
            }
            pairs.push(Arc::new(Logged {
                writer: Arc::clone(&writer),
                reader: Arc::clone(&reader),
                scenario,
                fence: lease.fence,
                news,
                appended: Notify::new(),
            }));
        }
        Ok(pairs)
    }
}

fn url(cli: &Cli) -> anyhow::Result<&str> {
    cli.redis.as_deref().context("--redis is needed")
}

fn prefix() -> String {
    format!("bench-{}", Uuid::new_v4().simple())
}

/// Connections as the log has them: one for commands, one for what is subscribed.
async fn bare(count: usize, url: &str) -> anyhow::Result<Vec<Arc<dyn Pair>>> {
    let client = resp3(url)?;
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let server = client.get_multiplexed_async_connection_with_config(&patient).await?;
    let prefix = prefix();
    let name = |kind: &str, n: usize| format!("{prefix}:{{b{}}}:{kind}:{n:036}", n % 64);
    let bells: HashMap<String, Arc<Notify>> =
        (0..count).map(|n| (name("news", n), Arc::default())).collect();
    let heard = bells.clone();
    let config = patient.set_push_sender(move |push: PushInfo| {
        if let (redis::PushKind::Message, Some(Value::BulkString(channel))) =
            (push.kind, push.data.first())
            && let Some(bell) = std::str::from_utf8(channel).ok().and_then(|name| heard.get(name))
        {
            bell.notify_one();
        }
        Ok::<_, std::convert::Infallible>(())
    });
    let mut subscriber = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut pairs: Vec<Arc<dyn Pair>> = Vec::new();
    for n in 0..count {
        let channel = name("news", n);
        subscriber.subscribe(&channel).await?;
        pairs.push(Arc::new(Bare {
            server: server.clone(),
            stream: name("log", n),
            bell: Arc::clone(&bells[&channel]),
            channel,
            _subscriber: subscriber.clone(),
        }));
    }
    Ok(pairs)
}

fn resp3(url: &str) -> anyhow::Result<Client> {
    use redis::IntoConnectionInfo;
    let info = url.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    Ok(Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp))?)
}

#[derive(Default)]
struct Sample {
    wall_us: f64,
    cpu_us: f64,
    server_us: f64,
    /// For 1,000 deltas, as the next.
    sent: f64,
    carried_out: f64,
}

async fn measure(way: Way, logs: usize, cli: &Cli) -> anyhow::Result<Sample> {
    let folder = tempfile::tempdir()?;
    let pairs = way.pairs(logs, cli, folder.path()).await?;
    let each = (cli.deltas / pairs.len()).max(1) as u64;
    let total = each as f64 * pairs.len() as f64;
    let mut server = match way {
        Way::Memory | Way::Disk => None,
        Way::Bare | Way::Redis => Some(resp3(url(cli)?)?.get_multiplexed_async_connection().await?),
    };
    let before = Counts::read(server.as_mut(), way).await?;
    let (cpu, since) = (cpu_seconds()?, Instant::now());
    let running = pairs.into_iter().map(|pair| tokio::spawn(lockstep(pair, each)));
    for done in try_join_all(running).await? {
        done?;
    }
    let (wall, cpu) = (since.elapsed().as_secs_f64(), cpu_seconds()? - cpu);
    let after = Counts::read(server.as_mut(), way).await?;
    Ok(Sample {
        wall_us: wall * 1e6 / total,
        cpu_us: cpu * 1e6 / total,
        server_us: (after.cpu_s - before.cpu_s) * 1e6 / total,
        sent: (after.sent - before.sent) * 1e3 / total,
        carried_out: (after.carried_out - before.carried_out) * 1e3 / total,
    })
}

/// A writer and its reader, each on a task of its own.
async fn lockstep(pair: Arc<dyn Pair>, deltas: u64) -> anyhow::Result<()> {
    let (read, mut was_read) = mpsc::channel::<u64>(1);
    let reader = {
        let pair = Arc::clone(&pair);
        tokio::spawn(async move {
            let mut after = 0;
            while after < deltas {
                let newest = pair.read(after).await?;
                if newest > after {
                    after = newest;
                    read.send(after).await?;
                }
            }
            anyhow::Ok(())
        })
    };
    let (scenario, text) =
        (ScenarioId::new(Timestamp::UNIX_EPOCH), "and so it went on for a while ".to_owned());
    for seq in 1..=deltas {
        let event =
            Event::TextDelta { turn: TurnId(scenario.0), off: seq as usize, text: text.clone() };
        pair.append(seq, Frame::encode(scenario, "0123456789ab", seq, &event)).await?;
        if was_read.recv().await != Some(seq) {
            bail!("delta {seq} was not read next");
        }
    }
    reader.await?
}

/// What a Redis server has done so far.
#[derive(Default)]
struct Counts {
    cpu_s: f64,
    /// Commands that clients sent, but for checks of their connections.
    sent: f64,
    /// Those that scripts call as well.
    carried_out: f64,
}

impl Counts {
    async fn read(server: Option<&mut MultiplexedConnection>, way: Way) -> anyhow::Result<Self> {
        let mut counts = Self::default();
        let Some(server) = server else { return Ok(counts) };
        let info: String = redis::cmd("INFO").arg("all").query_async(server).await?;
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            if matches!(name, "used_cpu_user" | "used_cpu_sys") {
                counts.cpu_s += value.parse::<f64>()?;
            }
            let Some(command) = name.strip_prefix("cmdstat_") else { continue };
            let calls = value.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
            let calls: f64 = calls.context("unexpected form of INFO")?.parse()?;
            counts.carried_out += calls;
            if way.sends().contains(&command) {
                counts.sent += calls;
            }
        }
        Ok(counts)
    }
}

/// User and system time of this process.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // The second field, the name, may hold anything; the last parenthesis ends it.
    let (_, fields) = stat.rsplit_once(") ").context("unexpected form of /proc/self/stat")?;
    let ticks =
        fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) / TICKS_PER_SECOND)
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()?;
    let mut ways = vec![Way::Memory, Way::Disk];
    if cli.redis.is_some() {
        ways.extend([Way::Bare, Way::Redis]);
    }
    println!(
        "| logs | way | µs a delta | CPU µs of the process | CPU µs of Redis | commands sent for 1,000 | carried out |\n\
         |---:|---|---:|---:|---:|---:|---:|"
    );
    for &logs in &cli.logs {
        let mut samples: HashMap<Way, Vec<Sample>> = HashMap::new();
        for _ in 0..cli.rounds {
            for &way in &ways {
                let sample = runtime.block_on(measure(way, logs, &cli))?;
                samples.entry(way).or_default().push(sample);
            }
        }
        for way in &ways {
            print_row(logs, *way, &samples[way]);
        }
        if cli.redis.is_some() {
            let pairs = samples[&Way::Redis].iter().zip(&samples[&Way::Bare]);
            let ratio = median(pairs.map(|(log, bare)| log.cpu_us / bare.cpu_us));
            println!(
                "\n{logs} logs: the log on Redis takes {ratio:.2} times the CPU of the bare calls (median of rounds)\n"
            );
        }
    }
    Ok(())
}

fn print_row(logs: usize, way: Way, samples: &[Sample]) {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
    println!(
        "| {logs} | {} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} |",
        way.title(),
        of(|sample| sample.wall_us),
        of(|sample| sample.cpu_us),
        of(|sample| sample.server_us),
        of(|sample| sample.sent),
        of(|sample| sample.carried_out),
    );
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
