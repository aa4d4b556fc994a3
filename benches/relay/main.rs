//! What relaying costs: the product against a bare relay, on the same machine, through the same upstream.
//!
//! `cargo bench --bench relay -- <scenario>` starts a mock upstream, the relays and their readers as processes of their
//! own (this binary again, in another role), so that the kernel accounts for each apart. docs/BENCHMARKS.md says what
//! is measured and why so.

mod bare;
mod client;
mod clock;
mod harness;
mod scene;
mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "relay", about = "What relaying costs: whatif against a bare relay")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Scenario(harness::Scenario),
    /// Role: the mock model server.
    Upstream {
        /// The run's clock starts here, in microseconds since 1970.
        origin: u64,
    },
    /// Role: the baseline.
    Bare {
        /// The upstream's port.
        upstream: u16,
        /// Turns Nagle's algorithm off.
        #[arg(long)]
        nodelay: bool,
    },
    /// Role: the readers.
    Client {
        /// The run's clock starts here, in microseconds since 1970.
        origin: u64,
        #[command(flatten)]
        args: client::Args,
    },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // cargo adds `--bench` to whatever it was told to pass on.
    let cli = Cli::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    match cli.command {
        Command::Bare { upstream, nodelay } => {
            several_threads()?.block_on(bare::serve(upstream, nodelay))
        }
        Command::Upstream { origin } => {
            clock::start(origin);
            one_thread()?.block_on(upstream::serve())
        }
        Command::Client { origin, args } => {
            clock::start(origin);
            let runtime = one_thread()?;
            let ended = runtime.block_on(client::run(args));
            // Standard input is read on a thread that nothing can interrupt.
            runtime.shutdown_background();
            ended
        }
        Command::Scenario(scenario) => one_thread()?.block_on(harness::run(scenario)),
    }
}

fn one_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// As `#[tokio::main]` makes it: the baseline runs as anyone would run it.
fn several_threads() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}
