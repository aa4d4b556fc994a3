//! Arguments, then boot.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use whatif::storyteller::{lint, tell};
use whatif::{boot, config, http, play, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The backend of What If Generator: interactive what-if scenarios, streamed live and never lost.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Configuration file; config.toml in the working directory if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a replica: gateway, services and sessions in this process.
    Serve,
    /// Play a scenario in the terminal, on a running server.
    Play(Box<play::Options>),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the API's description (OpenAPI 3.1, JSON).
    Openapi,
    /// Bring the stores' schemas up to date and exit.
    Migrate {
        /// Print DynamoDB's tables as JSON (CloudFormation's properties) and touch nothing.
        #[arg(long)]
        print_tables: bool,
    },
    /// Read the embedded storyteller, and look at its content.
    Storyteller {
        #[command(subcommand)]
        command: StorytellerCommand,
    },
    /// Ask a running server whether it is ready; exit code 0 if it is.
    #[command(hide = true)]
    Health {
        #[arg(default_value = "http://127.0.0.1:3000")]
        url: String,
    },
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check file and environment and print the outcome, secrets masked.
    Check,
}

#[derive(Subcommand)]
enum StorytellerCommand {
    /// Tell a whole story, without a server: the scenes, what could be chosen, and what was.
    Tell(Box<tell::Wanted>),
    /// Check packs and passages, and print what is wrong with them; exit code 1 if anything is.
    Lint {
        /// A folder like assets/storyteller; what is compiled in when left out.
        #[arg(long)]
        dir: Option<PathBuf>,
        /// Only what is wrong with this pack.
        #[arg(long, value_name = "ID")]
        pack: Option<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_park(give_memory_back)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line for whoever started us. There is nobody to tell if that fails.
fn complain(what: &dyn Display) {
    let _ = writeln!(io::stderr(), "whatif: {what}");
}

/// A line on standard output. Whoever closed it (`whatif openapi | head`) has seen enough, which is no failure.
fn print(line: impl Display) -> io::Result<()> {
    write(format_args!("{line}\n"))
}

fn write(text: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// The allocator keeps what a thread has freed until that thread asks: without this the memory of a crowd of readers
/// stays after they have left. A thread with nothing to do asks, at most every few seconds.
fn give_memory_back() {
    const EVERY: Duration = Duration::from_secs(5);
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    LAST.with(|last| {
        if last.get().is_none_or(|last| last.elapsed() >= EVERY) {
            last.set(Some(Instant::now()));
            #[expect(unsafe_code, reason = "the allocator's own function; it takes no pointer")]
            // SAFETY: `mi_collect` may be called on any thread at any time.
            unsafe {
                libmimalloc_sys::mi_collect(true);
            }
        }
    });
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let load = || {
        let env: BTreeMap<String, String> = std::env::vars().collect();
        config::load(arguments.config.as_deref(), &env)
    };
    match arguments.command {
        Command::Serve => serve(load()?.config).await,
        Command::Play(options) => play::run(*options).await,
        Command::Config { command: ConfigCommand::Check } => Ok(print(load()?.report())?),
        Command::Openapi => Ok(print(http::openapi().to_pretty_json()?)?),
        Command::Migrate { print_tables: true } => Ok(print(boot::print_tables(&load()?.config))?),
        Command::Migrate { print_tables: false } => {
            let config = load()?.config;
            telemetry::init_logs(&config.log)?;
            for store in boot::migrate(&config).await? {
                print(format_args!("{store}: up to date"))?;
            }
            Ok(())
        }
        Command::Storyteller { command: StorytellerCommand::Tell(wanted) } => {
            Ok(write(tell::tell(&wanted))?)
        }
        Command::Storyteller { command: StorytellerCommand::Lint { dir, pack } } => {
            lint_stories(dir.as_deref(), pack.as_deref())
        }
        Command::Health { url } => play::health(&url).await,
    }
}

fn lint_stories(dir: Option<&Path>, pack: Option<&str>) -> anyhow::Result<()> {
    let findings = match dir {
        Some(dir) => lint::check(&lint::from_folder(dir)?, pack),
        None => lint::check_compiled_in(pack),
    };
    for finding in &findings {
        print(finding)?;
    }
    anyhow::ensure!(findings.is_empty(), "{} findings", findings.len());
    Ok(())
}

async fn serve(config: config::Config) -> anyhow::Result<()> {
    telemetry::init_logs(&config.log)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let replica = boot::start(config).await?;
    if let Err(error) = print(boot::greeting(&replica)) {
        tracing::warn!(%error, "greeting not printed");
    }
    let by_hand = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => true,
    };
    // Who stops it from a terminal has no load balancer that needs time to notice.
    let hurry = CancellationToken::new();
    if by_hand {
        hurry.cancel();
    }
    let asked_again = async {
        if !by_hand {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            hurry.cancel();
        }
        interrupt.recv().await;
    };
    tokio::select! {
        () = replica.shut_down_after(hurry.cancelled()) => {}
        () = asked_again => tracing::warn!("stopped without draining"),
    }
    Ok(())
}
