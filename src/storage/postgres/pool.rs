//! Connections to one server: how many, with which limits, and when one is trusted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use super::error::{self, Kind};
use super::session::Session;
use crate::config::database::{Database, place};
use crate::storage::StoreError;

/// How a server knows us, unless the URL says otherwise.
const APPLICATION: &str = "whatif";
/// A connection that was good this recently is used without being asked.
const TRUSTED: Duration = Duration::from_secs(1);
/// Longest wait for a connection to a replica: the primary can answer in its place.
const REPLICA_ACQUIRE: Duration = Duration::from_millis(250);

/// What a server is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Must accept writes: after a fail-over the name may lead to a server that does not.
    Primary,
    Replica,
}

#[derive(Debug, Clone)]
pub(super) struct Pool {
    pool: PgPool,
    size: u32,
    doubt: Arc<Doubt>,
    place: Arc<str>,
}

impl Pool {
    /// Connects when it is needed.
    pub fn new(server: PgConnectOptions, role: Role, config: &Database) -> Self {
        let server = with_name(server);
        let place = place(&server).into();
        let doubt = Arc::new(Doubt::default());
        let suspicious = Arc::clone(&doubt);
        let limits = Limits::new(config);
        let (acquire, kept) = match role {
            Role::Primary => (config.acquire_timeout.min(config.timeout), config.pool_min),
            Role::Replica => (REPLICA_ACQUIRE.min(config.acquire_timeout), 0),
        };
        let pool = PgPoolOptions::new()
            .max_connections(config.pool_size)
            .min_connections(kept)
            .acquire_timeout(acquire)
            .idle_timeout(config.idle_timeout)
            .max_lifetime(config.max_lifetime)
            // `before_acquire` below does it, where it is worth a round trip.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let limits = limits.clone();
                Box::pin(async move { limits.set(connection, role).await })
            })
            .before_acquire(move |connection, meta| {
                let trusted = meta.idle_for < TRUSTED && !suspicious.is_fresh();
                Box::pin(async move { Ok(trusted || serves(connection, role).await?) })
            })
            .connect_lazy_with(server);
        Self { pool, size: config.pool_size, doubt, place }
    }

    /// A connection for one operation.
    pub async fn session(&self) -> Result<Session, sqlx::Error> {
        Ok(Session::new(self.pool.acquire().await?))
    }

    /// Looks at an operation's failure: others of these connections may be as bad.
    pub fn note(&self, failure: &sqlx::Error) {
        if error::kind(failure) == Kind::Lost {
            self.doubt.raise();
        }
    }

    pub fn store_error(&self, failure: sqlx::Error) -> StoreError {
        match failure {
            sqlx::Error::PoolTimedOut => {
                let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
                let open = self.pool.size();
                if open.saturating_sub(idle) >= self.size {
                    let message = format!("all {open} connections are in use or being opened");
                    return StoreError::Throttled { message, retry_after: None };
                }
                let place = &self.place;
                StoreError::Unavailable(format!("no connection to {place}, which is away or full"))
            }
            failure => error::store_error(failure),
        }
    }

    /// Whether the server answers and writes.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let serves = || sqlx::query_as::<_, (bool,)>("SELECT NOT pg_is_in_recovery()");
        if self.find(serves).await? == Some((true,)) {
            return Ok(());
        }
        self.doubt.raise();
        Err(StoreError::Unavailable("the server is read-only, another one writes now".into()))
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// One connection beside any pool.
pub(super) fn with_name(server: PgConnectOptions) -> PgConnectOptions {
    match server.get_application_name() {
        Some(_) => server,
        None => server.application_name(APPLICATION),
    }
}

/// The limits that the server keeps to by itself, whatever becomes of us. In its notation.
#[derive(Debug, Clone)]
struct Limits {
    statement: String,
    lock: String,
}

impl Limits {
    fn new(config: &Database) -> Self {
        let millis = |limit: Duration| limit.min(config.timeout).as_millis().to_string();
        Self { statement: millis(config.statement_timeout), lock: millis(config.lock_timeout) }
    }

    /// With a statement and not with start-up options, which proxies refuse.
    async fn set(&self, connection: &mut PgConnection, role: Role) -> Result<(), sqlx::Error> {
        sqlx::query(
            "SELECT set_config('statement_timeout', $1, false),
                 set_config('lock_timeout', $2, false),
                 set_config('idle_in_transaction_session_timeout', $1, false)",
        )
        .bind(&self.statement)
        .bind(&self.lock)
        .execute(&mut *connection)
        .await?;
        if serves(connection, role).await? {
            return Ok(());
        }
        Err(sqlx::Error::Protocol("the server is read-only".into()))
    }
}

/// Asks the server whether it still is what it is there for; that it answers is half of it.
async fn serves(connection: &mut PgConnection, role: Role) -> Result<bool, sqlx::Error> {
    let in_recovery: bool =
        sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(connection).await?;
    Ok(role == Role::Replica || !in_recovery)
}

/// When a connection last turned out to be bad. For a while after that none is trusted; what lay idle for longer is
/// asked in any case.
#[derive(Debug)]
struct Doubt {
    origin: Instant,
    /// Milliseconds since `origin`, plus one; 0: never.
    raised: AtomicU64,
}

impl Default for Doubt {
    fn default() -> Self {
        Self { origin: Instant::now(), raised: AtomicU64::new(0) }
    }
}

impl Doubt {
    fn raise(&self) {
        self.raised.store(self.now(), Ordering::Release);
    }

    fn is_fresh(&self) -> bool {
        let raised = self.raised.load(Ordering::Acquire);
        raised > 0 && u128::from(self.now().saturating_sub(raised)) <= TRUSTED.as_millis()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}
