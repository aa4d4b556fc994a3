//! What several replicas cost and what they save, measured on the product as it is run: `whatif serve` processes over
//! one PostgreSQL, one Redis and one DynamoDB-compatible server.
//!
//! `scripts/servers with DIR cargo bench --bench replicas -- <scenario>` starts the servers and tells their addresses.
//! Replicas and the mock model server are processes of their own; all readers live in this one, on one thread, so that
//! what they see is timed by one clock. docs/BENCHMARKS.md says what is measured and why so.

mod capacity;
mod delivery;
mod redis;
mod takeover;
mod watch;
mod world;

// The relay bench's harness, of which each bench uses its part.
#[path = "../relay/client/whatif.rs"]
#[expect(dead_code, reason = "the relay bench has a reader of its own")]
mod api;
#[path = "../relay/clock.rs"]
mod clock;
#[path = "../relay/client/link.rs"]
#[expect(dead_code, reason = "the relay bench closes its sockets one by one")]
mod link;
#[path = "../relay/harness/proc.rs"]
#[expect(dead_code, reason = "the relay bench measures memory and talks to its processes")]
mod proc;
#[path = "../relay/harness/relay.rs"]
mod relay;
#[path = "../relay/harness/report.rs"]
#[expect(dead_code, reason = "the relay bench compares cases too")]
mod report;
#[path = "../relay/scene.rs"]
mod scene;
#[path = "../relay/client/stats.rs"]
#[expect(dead_code, reason = "the relay bench has its readers report from a process of their own")]
mod stats;
#[path = "../relay/client/turn.rs"]
mod turn;
#[path = "../relay/upstream.rs"]
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use takeover::End;

#[derive(Debug, Parser)]
#[command(name = "replicas", about = "What several replicas cost, and what they save")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How much later an event is shown by a replica that does not own the session.
    Delivery(delivery::Args),
    /// Silence after the owner of a turn was killed: from the end of its lease to the next delta.
    Takeover(takeover::Args),
    /// Silence when the owner of a turn drains: from its last delta to the next owner's first.
    Handover(takeover::Args),
    /// Deltas a second by 1, 2 and 3 replicas, and what replicas and Redis spend on them.
    Capacity(capacity::Args),
    /// Role: the mock model server.
    #[command(hide = true)]
    Upstream {
        /// The run's clock starts here, in microseconds since 1970.
        origin: u64,
    },
}

/// What every scenario is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The product's program.
    #[arg(long, default_value = "target/release/whatif")]
    pub whatif: PathBuf,
    /// More environment for the product, as KEY=VALUE.
    #[arg(long)]
    pub env: Vec<String>,
    /// Folder of the JSON file.
    #[arg(long, default_value = "target/bench")]
    pub out: PathBuf,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("replicas: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // cargo adds `--bench` to whatever it was told to pass on.
    let cli = Cli::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Command::Upstream { origin } = cli.command {
        clock::start(origin);
        return runtime.block_on(upstream::serve());
    }
    scene::self_check()?;
    let origin = clock::unix_micros();
    clock::start(origin);
    runtime.block_on(async {
        match cli.command {
            Command::Delivery(args) => delivery::run(origin, args).await,
            Command::Takeover(args) => takeover::run(origin, End::Killed, args).await,
            Command::Handover(args) => takeover::run(origin, End::Drained, args).await,
            Command::Capacity(args) => capacity::run(origin, args).await,
            Command::Upstream { .. } => unreachable!("it has its own runtime's whole life"),
        }
    })
}
