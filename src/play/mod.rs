//! `whatif play`: an interactive story in the terminal, over the same wire as every other client.
//!
//! `main` calls [`run`]; the tests call [`run_with`] with streams of their own. The module speaks PROTOCOL.md to a
//! running server and never reaches into it. `reader`, `wire`, `wrap` and `commands` are pure; `client` and `link`
//! do the I/O; `session` joins them.

mod account;
mod client;
mod commands;
mod echo;
mod health;
mod link;
mod outgoing;
mod reader;
mod session;
mod terminal;
mod wire;
mod wrap;

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use uuid::Uuid;

use self::account::{Account, Login};
use self::client::{CallError, Client};
use self::reader::Reader;
use self::session::Session;
use self::terminal::Screen;
use crate::domain::ids::ScenarioId;

pub use self::health::health;
pub use self::session::Signal;
pub use self::terminal::{Style, Width};

/// Tries of a call whose repetition is harmless.
const MAX_TRIES: u32 = 4;

const DEFAULT_SERVER: &str = "http://127.0.0.1:3000";

/// What `whatif play` was told.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What if … ? Asked for when left out.
    pub prompt: Option<String>,
    /// The server to play on.
    #[arg(long, env = "WHATIF_SERVER", default_value = DEFAULT_SERVER)]
    pub server: String,
    /// Go on with this story instead of a new one.
    #[arg(long, value_name = "ID", conflicts_with = "prompt")]
    pub scenario: Option<ScenarioId>,
    /// Log in with this address instead of as a guest.
    #[arg(long, env = "WHATIF_EMAIL", requires = "password")]
    pub email: Option<String>,
    /// The password of --email; better given in the environment than on the command line.
    #[arg(long, env = "WHATIF_PASSWORD", hide_env_values = true, requires = "email")]
    pub password: Option<String>,
    #[arg(long)]
    pub genre: Option<String>,
    #[arg(long)]
    pub tone: Option<String>,
    /// How long a scene is to be.
    #[arg(long, value_parser = ["short", "medium", "long"])]
    pub length: Option<String>,
    /// A BCP 47 tag, such as en.
    #[arg(long)]
    pub language: Option<String>,
    /// The text provider to write with.
    #[arg(long)]
    pub provider: Option<String>,
    #[arg(long)]
    pub model: Option<String>,
    /// The same seed and the same choices tell the same story, if the provider can.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Wrap at this many columns; 0 never wraps. Left out: the terminal's width, none in a pipe.
    #[arg(long, value_name = "COLUMNS")]
    pub width: Option<usize>,
}

/// Where a sitting takes place.
pub struct Stage<'a> {
    /// What the player types. Closed at the end of input.
    pub lines: mpsc::Receiver<String>,
    pub signals: mpsc::Receiver<Signal>,
    /// The story.
    pub out: Box<dyn Write + Send + 'a>,
    /// Remarks about the connection.
    pub err: Box<dyn Write + Send + 'a>,
    pub style: Style,
    /// The folder that keeps logins.
    pub home: PathBuf,
}

#[derive(Deserialize)]
struct Created {
    id: String,
    session: Option<CreatedSession>,
}

#[derive(Deserialize)]
struct CreatedSession {
    epoch: String,
}

/// Plays on the process's own terminal or pipes.
///
/// # Errors
/// With one line for the player; the exit code is then 1.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let style = Style::of_process(options.width);
    let stage = Stage {
        lines: read_lines()?,
        signals: catch_signals()?,
        out: Box::new(io::stdout()),
        err: Box::new(io::stderr()),
        style,
        home: account::default_home()?,
    };
    match run_with(options, stage).await {
        // Whoever read our output has had enough (`whatif play … | head`).
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

/// Plays on any streams.
///
/// # Errors
/// With one line for the player.
pub async fn run_with(options: Options, stage: Stage<'_>) -> anyhow::Result<()> {
    let Stage { mut lines, mut signals, out, err, style, home } = stage;
    let mut screen = Screen::new(out, err, style);
    let client = Client::new(&options.server)?;
    let prompt = match (&options.scenario, &options.prompt) {
        (Some(_), _) => None,
        (None, Some(prompt)) => Some(prompt.trim().to_owned()),
        (None, None) => match ask_prompt(&mut screen, &mut lines, &mut signals).await? {
            Some(prompt) => Some(prompt),
            None => return Ok(()),
        },
    };
    let (account, scenario, reader) = tokio::select! {
        begun = begin(&client, &options, prompt.as_deref(), &home) => begun.map_err(explain)?,
        Some(_) = signals.recv() => return Ok(()),
    };
    if let Some(prompt) = &prompt {
        screen.title(prompt)?;
    }
    let link = link::start(client.clone(), Arc::clone(&account));
    let mut session = Session::new(client, account, scenario, reader, screen);
    session.play(link, &mut lines, &mut signals).await?;
    session.farewell()?;
    Ok(())
}

/// Logs in, and begins the story of `prompt` or opens the one named in the options.
async fn begin(
    client: &Client,
    options: &Options,
    prompt: Option<&str>,
    home: &Path,
) -> anyhow::Result<(Arc<Mutex<Account>>, String, Reader)> {
    let login = match (&options.email, &options.password) {
        (Some(email), Some(password)) => {
            Login::Member { email: email.clone(), password: password.clone() }
        }
        _ => Login::Guest,
    };
    let account = Account::open(client.clone(), login, home).await?;
    let account = Arc::new(Mutex::new(account));
    let (scenario, reader) = match (prompt, options.scenario) {
        (Some(prompt), _) => {
            let created = create(client, &account, options, prompt).await?;
            (created.id, Reader::from_start(created.session.map(|session| session.epoch)))
        }
        (None, scenario) => {
            let scenario = scenario.context("neither a prompt nor a scenario was given")?;
            (scenario.to_string(), Reader::catching_up())
        }
    };
    Ok((account, scenario, reader))
}

async fn ask_prompt(
    screen: &mut Screen<'_>,
    lines: &mut mpsc::Receiver<String>,
    signals: &mut mpsc::Receiver<Signal>,
) -> io::Result<Option<String>> {
    screen.ask("What if… ")?;
    loop {
        let line = tokio::select! {
            Some(_) = signals.recv() => return Ok(None),
            line = lines.recv() => line,
        };
        let Some(line) = line else { return Ok(None) };
        screen.answered(&line, true)?;
        match line.trim() {
            "" => screen.ask("What if… ")?,
            "/quit" | "/q" => return Ok(None),
            text if text.to_lowercase().starts_with("what ") => return Ok(Some(text.into())),
            text => return Ok(Some(format!("What if {text}"))),
        }
    }
}

async fn create(
    client: &Client,
    account: &Arc<Mutex<Account>>,
    options: &Options,
    prompt: &str,
) -> anyhow::Result<Created> {
    let fields = [
        ("genre", &options.genre),
        ("tone", &options.tone),
        ("length", &options.length),
        ("language", &options.language),
        ("provider", &options.provider),
        ("model", &options.model),
    ];
    let mut body = json!({ "prompt": prompt });
    for (name, value) in fields {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    if let Some(seed) = options.seed {
        body["seed"] = json!(seed);
    }
    // One key for all tries: a story whose answer was lost on the way is not begun twice.
    let key = Uuid::new_v4().to_string();
    authorized(client, account, async |client, token| {
        client.post("/scenarios", Some(token), Some(&key), &body).await
    })
    .await
}

/// Makes a call that may be repeated: with a new token if the one in use ran out, again if the failure may pass.
async fn authorized<T>(
    client: &Client,
    account: &Mutex<Account>,
    call: impl AsyncFn(&Client, &str) -> Result<T, CallError>,
) -> anyhow::Result<T> {
    let mut token = account.lock().await.access_token().to_owned();
    let mut renewed = false;
    let mut tries = 1;
    loop {
        match call(client, &token).await {
            Ok(value) => return Ok(value),
            Err(error) if error.is_unauthenticated() && !renewed => {
                renewed = true;
                token = account.lock().await.renew(&token).await?;
            }
            Err(error) if error.is_passing() && tries < MAX_TRIES => {
                let wait = error.retry_after().unwrap_or(Duration::from_millis(200 << tries));
                tokio::time::sleep(wait.min(Duration::from_secs(10))).await;
                tries += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells a player whose server is not there how to start one.
fn explain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<CallError>() {
        Some(CallError::Unreachable { url, cause }) => anyhow::anyhow!(
            "no server answers at {url} ({cause}); start one with `make run`, or name another with --server"
        ),
        _ => error,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Lines of standard input, each read when the one before was taken.
fn read_lines() -> anyhow::Result<mpsc::Receiver<String>> {
    let (lines, receiver) = mpsc::channel(1);
    // A thread of its own: a read of standard input cannot be cancelled, and must not hold up the exit.
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if lines.blocking_send(line).is_err() {
                    break;
                }
            }
        })
        .context("cannot start the thread that reads standard input")?;
    Ok(receiver)
}

fn catch_signals() -> io::Result<mpsc::Receiver<Signal>> {
    use tokio::signal::unix::{SignalKind, signal};

    let (signals, receiver) = mpsc::channel(4);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            let caught = tokio::select! {
                Some(()) = interrupt.recv() => Signal::Interrupt,
                Some(()) = terminate.recv() => Signal::Terminate,
                else => break,
            };
            if signals.send(caught).await.is_err() {
                break;
            }
        }
    });
    Ok(receiver)
}
