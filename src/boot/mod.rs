//! Building and ending a replica: the only place that makes stores, providers, the tree and the listeners, and the
//! only one that knows in which order they go down.

mod chores;
mod dependencies;
mod listen;
mod moderation;
mod providers;
mod stores;

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::actors::cache::CacheHandle;
use crate::actors::circuit::Policy;
use crate::actors::gateway::GatewayHandle;
use crate::actors::limits::LimitsHandle;
use crate::actors::tree::{self, Root, Tree};
use crate::actors::{self, answers, budget, chat, generation, history, housekeeping, user};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::{self, AppState, MetricsPage, Services};
use crate::telemetry;

use listen::{bind, bind_internal, serve};
use stores::{Accounts, Log, Stores, claim_data_dir};

pub use stores::{migrate, print_tables};

/// Longest that databases of accounts are waited for when everything else has ended.
const GOODBYE: Duration = Duration::from_secs(1);

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
    accounts: Accounts,
    log: Log,
    drain_timeout: Duration,
    /// Held as long as this process uses the data directory.
    _lock: File,
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
    let stores = Stores::open(&config).await?;

    let (users, user_row, user_status) = user::build(
        &config.auth,
        &config.logins,
        &config.circuits,
        user::Parts {
            store: stores.accounts.users(),
            revocations: Arc::clone(&stores.revocations),
            logins: Arc::clone(&stores.logins),
            secret: secret.clone(),
            cost: user::HashCost::default(),
            clock: clock.clone(),
        },
    );
    let (answers, gateway_row, gateway_status) = answers::build(
        &config.circuits,
        answers::Parts {
            store: stores.accounts.answers(),
            secret,
            clock: clock.clone(),
            request_timeout: config.server.request_timeout,
        },
    );
    let cache = CacheHandle::new(&config.cache, Arc::clone(&stores.cache));
    let scenarios = Arc::new(stores.dynamo.scenarios());
    let (history, history_row, history_status) =
        history::build(scenarios, clock.clone(), circuit.clone());
    let moderation = moderation::moderation(&config, &circuit)?;
    let (generation, generation_rows, generation_status) = generation::build(generation::Parts {
        log: stores.log.store(),
        bus: stores.bus.clone(),
        history: history.clone(),
        texts: providers::text_providers(&config, &circuit),
        moderation: moderation.clone(),
        budget: budget::Parts {
            store: stores.accounts.budget(),
            config: config.budget.clone(),
            circuit: circuit.clone(),
        },
        cache: cache.clone(),
        clock: clock.clone(),
        config: config.sessions.clone(),
        retention: config.event_log.retention,
        replica: Uuid::new_v4().to_string(),
    });

    let cache = CacheHandle::new(&config.cache, Arc::clone(&stores.cache));
    let (chat, chat_row, chat_status) = chat::build(chat::Parts {
        config: config.chat.clone(),
        search: config.search.clone(),
        engines: providers::search_providers(&config),
        history: history.clone(),
        generation: generation.clone(),
        cache: cache.clone(),
        clock: clock.clone(),
        circuit: circuit.clone(),
    });

    let (planned, planned_status): (Vec<_>, Vec<_>) = tree::planned().into_iter().unzip();
    let mut services =
        vec![gateway_status, user_status, generation_status, history_status, chat_status];
    services.extend(planned_status);
    let limits = LimitsHandle::new(&config.limits, stores.limits.clone());
    let dependencies = dependencies::dependencies(&config, &stores, &services, &limits);
    let (dependencies, probes) = actors::dependencies::build(dependencies);
    let gateway = GatewayHandle::new(&config.sockets, services, dependencies);
    let root = Tree {
        user: user_row,
        history: history_row,
        generation: generation_rows,
        chat: chat_row,
        gateway: gateway_row,
        housekeeping: housekeeping::child(chores::chores(
            &users,
            &answers,
            &generation,
            &stores.dynamo,
            &clock,
        )),
        probes,
    }
    .start(planned)
    .await
    .context("the actor tree cannot be started")?;

    let state = AppState::new(Services {
        users,
        history,
        generation,
        chat,
        answers,
        gateway: gateway.clone(),
        limits,
        cache,
        moderation,
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
        accounts: stores.accounts,
        log: stores.log,
        drain_timeout,
        _lock: lock,
    })
}

impl Replica {
    /// Drains and stops, within the configured deadline: not ready, no new turns, sessions handed over at their log's
    /// head, sockets sent away, requests finished, children stopped, stores closed last.
    pub async fn shut_down(self) {
        self.shut_down_after(std::future::ready(())).await;
    }

    /// As [`Replica::shut_down`], but goes on accepting requests for the configured delay, or until `hurried`: whoever
    /// sends them here has to see first that it should not. New turns and sockets are refused meanwhile.
    pub async fn shut_down_after(self, hurried: impl Future<Output = ()>) {
        let since = tokio::time::Instant::now();
        let deadline = since + self.drain_timeout;
        let Self { state, root, servers, stop_servers, accounts, log, .. } = self;
        tracing::info!("draining");
        state.gateway.drain();
        state.generation.refuse_turns();
        let _ = tokio::time::timeout_at(deadline, state.generation.hand_over()).await;
        let noticed = deadline.min(since + state.config.server.drain_delay);
        let _ = tokio::time::timeout_at(noticed, hurried).await;
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
        log.close().await;
        // What was written is safe; a database that does not answer is not waited for.
        let _ = tokio::time::timeout(GOODBYE, accounts.close()).await;
        tracing::info!("stopped");
    }

    /// What handlers can reach; for tests that look behind the API.
    pub fn state(&self) -> &AppState {
        &self.state
    }
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
