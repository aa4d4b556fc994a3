//! What a service call costs inside the process: handle, circuit, permit, queue, worker and back.
//!
//! `cargo bench --bench hop` has 1, 8 and 64 tasks call without pause, on two runtime threads and with the product's
//! allocator, in four ways: the work awaited directly, one plain ractor actor asked by `cast` with a oneshot channel or
//! by `call!`, and a supervised pool. The work is the same and next to nothing, so what remains is the way there.
//! docs/BENCHMARKS.md has the figures and how to read them.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use whatif::actors::circuit::Policy;
use whatif::actors::pool::{self, Failure, PoolHandle, PoolSpec, Reply, Trip};
use whatif::actors::supervisor::{Excess, Intensity, Supervisor, SupervisorArgs, stop_supervisor};
use whatif::error::ServiceError;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNTIME_THREADS: usize = 2;
/// As the pool in front of the user database.
const POOL_WORKERS: usize = 8;
const POOL_CAPACITY: usize = 512;
/// What the kernel counts CPU time in.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Parser)]
#[command(name = "hop", about = "What a service call costs inside the process")]
struct Cli {
    /// Callers at the same time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    callers: Vec<usize>,
    /// Rounds; in each, every way is measured once.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Length of one measurement.
    #[arg(long, default_value_t = 500)]
    millis: u64,
    /// Measures these ways only.
    #[arg(long, value_delimiter = ',', default_values_t = Way::ALL)]
    ways: Vec<Way>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    Direct,
    Cast,
    Call,
    Pool,
}

impl Way {
    const ALL: [Way; 4] = [Way::Direct, Way::Cast, Way::Call, Way::Pool];

    const fn title(self) -> &'static str {
        match self {
            Way::Direct => "direct await",
            Way::Cast => "one actor, cast + oneshot",
            Way::Call => "one actor, call!",
            Way::Pool => "supervised pool",
        }
    }
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Way::Direct => "direct",
            Way::Cast => "cast",
            Way::Call => "call",
            Way::Pool => "pool",
        })
    }
}

fn main() -> anyhow::Result<()> {
    // cargo adds `--bench` to whatever it was told to pass on.
    let cli = Cli::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()?;
    let subjects = runtime.block_on(Subjects::start())?;
    println!("| callers | way | calls/s | CPU µs per call | CPUs busy |\n|--:|---|--:|--:|--:|");
    for &callers in &cli.callers {
        let mut samples = vec![Vec::new(); cli.ways.len()];
        // The first round warms up.
        for round in 0..=cli.rounds {
            for (way, samples) in cli.ways.iter().zip(&mut samples) {
                let length = Duration::from_millis(cli.millis);
                let sample = measure(&runtime, &subjects, *way, callers, length)?;
                if round > 0 {
                    samples.push(sample);
                }
            }
        }
        for (way, samples) in cli.ways.iter().zip(&samples) {
            print_row(callers, *way, samples);
        }
    }
    runtime.block_on(subjects.stop());
    Ok(())
}

/// The work: an answer that costs nothing but cannot be foreseen.
async fn work(question: u64) -> Result<u64, ServiceError> {
    Ok(black_box(question).wrapping_add(1))
}

struct Job(u64, Reply<u64>);

struct Worked;

impl pool::Work for Worked {
    type Job = Job;

    async fn run(&self, Job(question, reply): Job) -> Result<(), Trip> {
        reply.answer(work(question).await.map_err(Failure::from))
    }

    async fn probe(&self) -> Result<(), Trip> {
        Ok(())
    }
}

/// One plain actor: what ractor alone costs, without admission, deadline, circuit or a second worker.
struct Plain;

enum PlainMsg {
    Cast(u64, oneshot::Sender<Result<u64, ServiceError>>),
    Call(u64, RpcReplyPort<Result<u64, ServiceError>>),
}

impl Actor for Plain {
    type Msg = PlainMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<PlainMsg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<PlainMsg>,
        message: PlainMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PlainMsg::Cast(question, reply) => drop(reply.send(work(question).await)),
            PlainMsg::Call(question, reply) => drop(reply.send(work(question).await)),
        }
        Ok(())
    }
}

struct Subjects {
    plain: ActorRef<PlainMsg>,
    pool: PoolHandle<Worked>,
    supervisor: ractor::ActorCell,
}

impl Subjects {
    async fn start() -> anyhow::Result<Self> {
        let spec = PoolSpec {
            name: "bench.nothing",
            workers: POOL_WORKERS,
            capacity: POOL_CAPACITY,
            deadline: Duration::from_secs(5),
            panics: Intensity::NONE,
            circuit: Policy {
                window: Duration::from_secs(10),
                min_calls: 10,
                failure_ratio: 0.5,
                backoff_min: Duration::from_millis(50),
                backoff_max: Duration::from_secs(30),
            },
        };
        let pool = PoolHandle::new(spec, Worked);
        let children = vec![pool::child(&pool)];
        let args = SupervisorArgs { name: "bench", children, excess: Excess::Fail };
        let (supervisor, _) = Actor::spawn(None, Supervisor, args).await?;
        let (plain, _) = Actor::spawn(None, Plain, ()).await?;
        Ok(Self { plain, pool, supervisor: supervisor.get_cell() })
    }

    async fn stop(self) {
        stop_supervisor(self.supervisor, Duration::from_secs(1)).await;
        self.plain.stop(None);
    }
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    calls_per_s: f64,
    cpu_us: f64,
    cpus_busy: f64,
}

fn measure(
    runtime: &Runtime,
    subjects: &Subjects,
    way: Way,
    callers: usize,
    length: Duration,
) -> anyhow::Result<Sample> {
    match way {
        Way::Direct => load(runtime, callers, length, Direct),
        Way::Cast => load(runtime, callers, length, Cast(subjects.plain.clone())),
        Way::Call => load(runtime, callers, length, Call(subjects.plain.clone())),
        Way::Pool => load(runtime, callers, length, Pooled(subjects.pool.clone())),
    }
}

/// One way to have the work done. Every caller has its own clone, as a request handler has.
trait Ask: Clone + Send + Sync + 'static {
    fn ask(&self, question: u64) -> impl Future<Output = Result<u64, ServiceError>> + Send;
}

#[derive(Clone)]
struct Direct;

impl Ask for Direct {
    async fn ask(&self, question: u64) -> Result<u64, ServiceError> {
        work(question).await
    }
}

#[derive(Clone)]
struct Cast(ActorRef<PlainMsg>);

impl Ask for Cast {
    async fn ask(&self, question: u64) -> Result<u64, ServiceError> {
        let (reply, answer) = oneshot::channel();
        self.0.cast(PlainMsg::Cast(question, reply)).map_err(|_| ServiceError::internal())?;
        answer.await.map_err(|_| ServiceError::internal())?
    }
}

#[derive(Clone)]
struct Call(ActorRef<PlainMsg>);

impl Ask for Call {
    async fn ask(&self, question: u64) -> Result<u64, ServiceError> {
        ractor::call!(self.0, PlainMsg::Call, question).map_err(|_| ServiceError::internal())?
    }
}

#[derive(Clone)]
struct Pooled(PoolHandle<Worked>);

impl Ask for Pooled {
    async fn ask(&self, question: u64) -> Result<u64, ServiceError> {
        self.0.call(|reply| Job(question, reply)).await
    }
}

/// Has that many tasks call without pause for that long.
fn load(
    runtime: &Runtime,
    callers: usize,
    length: Duration,
    way: impl Ask,
) -> anyhow::Result<Sample> {
    let over = Arc::new(AtomicBool::new(false));
    let (cpu, start) = (cpu_seconds()?, Instant::now());
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (over, way) = (Arc::clone(&over), way.clone());
            runtime.spawn(async move {
                let mut calls = 0;
                while !over.load(Ordering::Relaxed) {
                    let answer: u64 = way.ask(calls).await?;
                    calls += 1;
                    anyhow::ensure!(black_box(answer) == calls, "someone else's answer");
                }
                Ok(calls)
            })
        })
        .collect();
    std::thread::sleep(length);
    over.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for caller in callers {
        calls += runtime.block_on(caller)??;
    }
    let (cpu, wall) = (cpu_seconds()? - cpu, start.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a count of calls within a second")]
    let calls = calls as f64;
    Ok(Sample { calls_per_s: calls / wall, cpu_us: cpu * 1e6 / calls, cpus_busy: cpu / wall })
}

/// User plus system time of this process so far.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    // The second field, the name, may hold anything; the last parenthesis ends it.
    let (_, fields) = stat.rsplit_once(") ").context("unexpected form of /proc/self/stat")?;
    let ticks =
        fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) / TICKS_PER_SECOND)
}

fn print_row(callers: usize, way: Way, samples: &[Sample]) {
    let of = |figure: fn(&Sample) -> f64| {
        let mut figures: Vec<f64> = samples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
    };
    let (calls, least, most) = of(|sample| sample.calls_per_s / 1e6);
    let (cpu, cheapest, dearest) = of(|sample| sample.cpu_us);
    let (busy, ..) = of(|sample| sample.cpus_busy);
    println!(
        "| {callers} | {} | {calls:.2} M ({least:.2}–{most:.2}) | {cpu:.3} ({cheapest:.3}–{dearest:.3}) | {busy:.2} |",
        way.title()
    );
}
