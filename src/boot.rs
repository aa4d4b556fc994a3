//! Building and ending a replica: the only place that makes stores, providers, the tree and the listeners, and the
//! only one that knows in which order they go down.

use std::fs::{DirBuilder, File, TryLockError};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::actors::circuit::Policy;
use crate::actors::gateway::GatewayHandle;
use crate::actors::generation::{self, TextProviders, TextSpec};
use crate::actors::housekeeping::{self, Chore};
use crate::actors::tree::{self, Root, Tree};
use crate::actors::{answers, history, user};
use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::http::{self, AppState, MetricsPage, Service, Services};
use crate::providers::openai::OpenAiProvider;
use crate::providers::storyteller::StorytellerProvider;
use crate::providers::text::TextProvider;
use crate::storage::dynamodb::Dynamo;
use crate::storage::embedded::{DiskLog, MemoryLog};
use crate::storage::log::LogStore;
use crate::storage::sqlite::idempotency::SqliteAnswerStore;
use crate::storage::sqlite::user::SqliteUserStore;
use crate::telemetry;

/// Text streams that the storyteller may open at the same moment.
const STORYTELLER_CONCURRENCY: usize = 64;
/// Longest that the storyteller may take to begin.
const STORYTELLER_DEADLINE: Duration = Duration::from_secs(10);

/// A replica that serves.
pub struct Replica {
    /// The gateway's address.
    pub address: SocketAddr,
    /// Service listeners, by name.
    pub internal: Vec<(&'static str, SocketAddr)>,
    state: AppState,
    root: Root,
    servers: Vec<JoinHandle<()>>,
    stop_servers: CancellationToken,
    log: Log,
    drain_timeout: Duration,
    /// Held as long as this process uses the data directory.
    _lock: File,
}

enum Log {
    Disk(Arc<DiskLog>),
    Memory(Arc<MemoryLog>),
}

impl Log {
    fn store(&self) -> Arc<dyn LogStore> {
        match self {
            Log::Disk(log) => Arc::clone(log) as Arc<dyn LogStore>,
            Log::Memory(log) => Arc::clone(log) as Arc<dyn LogStore>,
        }
    }
}

/// Builds a replica and starts it.
///
/// # Errors
/// One line for the person who starts it: a port that is taken, a folder that cannot be used, a damaged store.
pub async fn start(config: Config) -> anyhow::Result<Replica> {
    let config = Arc::new(config);
    let lock = claim_data_dir(&config.data_dir)?;
    // Ports first: a second process on the same ones should not get as far as the stores.
    let gateway_listener = bind(config.server.host, config.server.port).await?;
    let internal_listeners = bind_internal(&config).await?;

    let clock = Clock::system();
    let circuit = Policy::from(&config.circuits);
    let recorder = telemetry::metrics().context("metrics cannot be set up")?;
    tokio::spawn(telemetry::upkeep(recorder));

    let secret = user::ServerSecret::load(&config.auth, &config.data_dir)?;
    let users = SqliteUserStore::open(&config.data_dir).await.context("users.db")?;
    let kept = SqliteAnswerStore::open(&config.data_dir).await.context("answers.db")?;
    let dynamo =
        Dynamo::embedded(&config.data_dir.join("history.db")).await.context("history.db")?;
    dynamo.ensure_tables().await.context("history.db")?;
    let log = open_log(&config)?;

    let (users, user_row, user_status) = user::build(
        &config.auth,
        &config.circuits,
        user::Parts {
            store: Arc::new(users),
            secret: secret.clone(),
            cost: user::HashCost::default(),
            clock: clock.clone(),
        },
    );
    let (answers, gateway_row, gateway_status) = answers::build(
        &config.circuits,
        answers::Parts {
            store: Arc::new(kept),
            secret,
            clock: clock.clone(),
            request_timeout: config.server.request_timeout,
        },
    );
    let scenarios = Arc::new(dynamo.scenarios());
    let (history, history_row, history_status) =
        history::build(scenarios, clock.clone(), circuit.clone());
    let (generation, generation_rows, generation_status) = generation::build(generation::Parts {
        log: log.store(),
        history: history.clone(),
        texts: text_providers(&config, &circuit),
        clock: clock.clone(),
        config: config.sessions.clone(),
        retention: config.event_log.retention,
        replica: Uuid::new_v4().to_string(),
    });

    let (planned, planned_status): (Vec<_>, Vec<_>) = tree::planned().into_iter().unzip();
    let mut services = vec![gateway_status, user_status, generation_status, history_status];
    services.extend(planned_status);
    let gateway = GatewayHandle::new(&config.sockets, services);
    let root = Tree {
        user: user_row,
        history: history_row,
        generation: generation_rows,
        gateway: gateway_row,
        housekeeping: housekeeping::child(chores(&users, &answers, &dynamo, &clock)),
    }
    .start(planned)
    .await
    .context("the actor tree cannot be started")?;

    let state = AppState::new(Services {
        users,
        history,
        generation,
        answers,
        gateway: gateway.clone(),
        metrics: MetricsPage::new(|| recorder.render()),
        clock,
        config: Arc::clone(&config),
        started: Instant::now(),
    });
    let stop_servers = CancellationToken::new();
    let address = gateway_listener.local_addr()?;
    let mut servers =
        vec![serve(gateway_listener, http::gateway_router(state.clone()), &stop_servers)];
    let mut internal = Vec::new();
    for (service, listener) in internal_listeners {
        internal.push((service.name(), listener.local_addr()?));
        servers.push(serve(listener, http::internal_router(service, state.clone()), &stop_servers));
    }
    gateway.serve();
    let drain_timeout = config.server.drain_timeout;
    Ok(Replica {
        address,
        internal,
        state,
        root,
        servers,
        stop_servers,
        log,
        drain_timeout,
        _lock: lock,
    })
}

impl Replica {
    /// Drains and stops, within the configured deadline: not ready, no new turns, sessions handed over at their log's
    /// head, sockets sent away, requests finished, children stopped, stores closed last.
    pub async fn shut_down(self) {
        let deadline = tokio::time::Instant::now() + self.drain_timeout;
        let Self { state, root, servers, stop_servers, log, .. } = self;
        tracing::info!("draining");
        state.gateway.drain();
        state.generation.refuse_turns();
        let _ = tokio::time::timeout_at(deadline, state.generation.hand_over()).await;
        stop_servers.cancel();
        let finished = futures::future::join_all(servers);
        if tokio::time::timeout_at(deadline, finished).await.is_err() {
            tracing::warn!("requests were cut off at the drain's deadline");
        }
        // Sockets are no requests: they leave within their own time.
        while state.gateway.open_sockets() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(state);
        root.stop(deadline.saturating_duration_since(tokio::time::Instant::now())).await;
        if let Log::Disk(log) = log {
            log.close().await;
        }
        tracing::info!("stopped");
    }

    /// What handlers can reach; for tests that look behind the API.
    pub fn state(&self) -> &AppState {
        &self.state
    }
}

/// Brings the schemas of the configured stores up to date; returns what was looked at.
///
/// # Errors
/// As [`start`].
pub async fn migrate(config: &Config) -> anyhow::Result<Vec<String>> {
    let _lock = claim_data_dir(&config.data_dir)?;
    let file = |name: &str| config.data_dir.join(name).display().to_string();
    SqliteUserStore::open(&config.data_dir).await.context("users.db")?;
    SqliteAnswerStore::open(&config.data_dir).await.context("answers.db")?;
    let dynamo =
        Dynamo::embedded(&config.data_dir.join("history.db")).await.context("history.db")?;
    dynamo.ensure_tables().await.context("history.db")?;
    if let Log::Disk(log) = open_log(config)? {
        log.close().await;
    }
    Ok(["users.db", "answers.db", "history.db", "events.db"].map(file).into())
}

/// Makes the data directory and takes it for this process.
fn claim_data_dir(dir: &Path) -> anyhow::Result<File> {
    let shown = dir.display();
    // Stories and secrets: nobody else's business.
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("data directory {shown} cannot be made"))?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(".lock"))
        .with_context(|| format!("data directory {shown} cannot be written"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            bail!("data directory {shown} is in use by another process (set DATA_DIR)")
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("data directory {shown} cannot be locked"))
        }
    }
}

async fn bind(host: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(host, port);
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn bind_internal(config: &Config) -> anyhow::Result<Vec<(Service, TcpListener)>> {
    let internal = &config.internal;
    if !internal.enabled {
        return Ok(Vec::new());
    }
    let mut listeners = Vec::new();
    for (service, port) in [
        (Service::User, internal.user_port),
        (Service::Generation, internal.generation_port),
        (Service::History, internal.history_port),
        (Service::Sharing, internal.sharing_port),
        (Service::Video, internal.video_port),
        (Service::Social, internal.social_port),
    ] {
        let listener = bind(internal.host, port).await.with_context(|| {
            format!("internal listener of the {} service (WHATIF__INTERNAL__ENABLED=false turns them off)", service.name())
        })?;
        listeners.push((service, listener));
    }
    Ok(listeners)
}

fn open_log(config: &Config) -> anyhow::Result<Log> {
    Ok(match config.event_log.durability {
        Durability::Disk => Log::Disk(Arc::new(DiskLog::open(&config.data_dir)?)),
        Durability::Memory => Log::Memory(Arc::new(MemoryLog::new())),
    })
}

/// The configured providers that can be used, the storyteller last.
fn text_providers(config: &Config, circuit: &Policy) -> TextProviders {
    let mut specs = Vec::new();
    for name in &config.providers.text {
        if name == "openai" {
            let openai = &config.providers.openai;
            if !openai.is_configured() {
                continue;
            }
            match OpenAiProvider::new(openai) {
                Ok(provider) => specs.push(TextSpec {
                    provider: Arc::new(provider),
                    concurrency: openai.max_concurrency,
                    open_deadline: (openai.connect_timeout + openai.first_byte_timeout)
                        * openai.max_attempts.max(1),
                }),
                Err(error) => tracing::warn!(%error, "provider openai is left out"),
            }
        }
    }
    let storyteller = StorytellerProvider::new(config.providers.storyteller.words_per_second);
    specs.push(TextSpec {
        provider: Arc::new(storyteller) as Arc<dyn TextProvider>,
        concurrency: STORYTELLER_CONCURRENCY,
        open_deadline: STORYTELLER_DEADLINE,
    });
    TextProviders::new(specs, circuit)
}

fn chores(
    users: &user::UserHandle,
    answers: &answers::AnswersHandle,
    dynamo: &Dynamo,
    clock: &Clock,
) -> Vec<Chore> {
    let (users, answers, dynamo) = (users.clone(), answers.clone(), dynamo.clone());
    let (scenarios, clock) = (dynamo.scenarios(), clock.clone());
    vec![
        Chore {
            name: "logins",
            run: Box::new(move || {
                let users = users.clone();
                Box::pin(async move { users.purge().await.map_err(|error| error.to_string()) })
            }),
        },
        Chore {
            name: "answers",
            run: Box::new(move || {
                let answers = answers.clone();
                Box::pin(async move { answers.purge().await.map_err(|error| error.to_string()) })
            }),
        },
        Chore {
            name: "deleted scenarios",
            run: Box::new(move || {
                let (scenarios, clock) = (scenarios.clone(), clock.clone());
                Box::pin(async move {
                    let purged = scenarios.purge_deleted(clock.now()).await;
                    purged.map(|count| count as u64).map_err(|error| error.to_string())
                })
            }),
        },
        Chore {
            name: "expired items",
            run: Box::new(move || {
                let dynamo = dynamo.clone();
                Box::pin(async move {
                    let swept = dynamo.sweep_expired().await;
                    swept.map(|count| count as u64).map_err(|error| error.to_string())
                })
            }),
        },
    ]
}

fn serve(listener: TcpListener, router: Router, stop: &CancellationToken) -> JoinHandle<()> {
    // Small frames must not wait for each other (Nagle).
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
    });
    let stop = stop.clone();
    tokio::spawn(async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(async move { stop.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "listener failed");
        }
    })
}

/// What a started replica tells the person who started it.
pub fn greeting(replica: &Replica) -> String {
    let port = replica.address.port();
    let base = format!("http://127.0.0.1:{port}");
    let body =
        r#"{"email":"ada@example.org","password":"a long enough password","display_name":"Ada"}"#;
    format!(
        "\nwhatif is listening on {base}\n\n  API docs       {base}{docs}\n  health         {base}/health\n  \
         first story    whatif play --server {base} \"What if Rome never fell?\"\n  \
         first request  curl -s {base}/api/v1/auth/register -H 'content-type: application/json' -d '{body}'\n",
        docs = http::docs::DOCS_PATH,
    )
}
