//! Opens the stores that the configuration asks for, and closes them again.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::{AppEnv, Config, Durability, DynamoEngine, database};
use crate::storage::budget::BudgetStore;
use crate::storage::bus::ReplicaBus;
use crate::storage::cache::CacheStore;
use crate::storage::dynamodb::Dynamo;
use crate::storage::dynamodb::tables::Deployment;
use crate::storage::embedded::{DiskLog, LocalCache, LocalLogins, LocalRevocations, MemoryLog};
use crate::storage::idempotency::AnswerStore;
use crate::storage::limits::RateLimiter;
use crate::storage::log::LogStore;
use crate::storage::login::LoginStore;
use crate::storage::postgres::Postgres;
use crate::storage::redis::{
    Redis, RedisBus, RedisCache, RedisLog, RedisLogins, RedisRateLimiter, RedisRevocations,
    Subscriptions,
};
use crate::storage::revocation::RevocationStore;
use crate::storage::sqlite::budget::SqliteBudgetStore;
use crate::storage::sqlite::idempotency::SqliteAnswerStore;
use crate::storage::sqlite::user::SqliteUserStore;
use crate::storage::user::UserStore;

/// Everything that a replica keeps, whatever keeps it.
pub(super) struct Stores {
    pub accounts: Accounts,
    pub revocations: Arc<dyn RevocationStore>,
    pub logins: Arc<dyn LoginStore>,
    pub cache: Arc<dyn CacheStore>,
    /// Counted over all replicas; without it each counts for itself.
    pub limits: Option<Arc<dyn RateLimiter>>,
    pub dynamo: Dynamo,
    pub log: Log,
    /// Absent where no other replica can be.
    pub bus: Option<Arc<dyn ReplicaBus>>,
    /// What several of these are in, if they are.
    pub redis: Option<Redis>,
}

impl Stores {
    /// Opens every store and brings its schema up to date.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let accounts = Accounts::open(config).await?;
        let dynamo = open_dynamo(config).await?;
        // Where others depend on the tables, they are made when somebody means to.
        let checked = match (config.dynamodb.engine(), config.env) {
            (DynamoEngine::Embedded, _) | (_, AppEnv::Development) => {
                dynamo.ensure_tables().await.map(drop)
            }
            _ => dynamo.check_tables().await,
        };
        checked.with_context(|| keeper_of_scenarios(config))?;
        let Shared { log, bus, revocations, logins, cache, limits, redis } =
            open_shared(config).await?;
        Ok(Self { accounts, revocations, logins, cache, limits, dynamo, log, bus, redis })
    }
}

/// Where accounts, kept answers and what model calls cost are.
pub(super) enum Accounts {
    Sqlite(Files),
    Postgres(Postgres),
}

pub(super) struct Files {
    users: Arc<SqliteUserStore>,
    answers: Arc<SqliteAnswerStore>,
    budget: Arc<SqliteBudgetStore>,
}

impl Accounts {
    /// PostgreSQL where it is configured, else files.
    async fn open(config: &Config) -> anyhow::Result<Self> {
        if config.database.url.is_some() {
            let postgres = Postgres::open(&config.database).await.context("PostgreSQL")?;
            return Ok(Accounts::Postgres(postgres));
        }
        let dir = &config.data_dir;
        let users = SqliteUserStore::open(dir).await.context("users.db")?;
        let answers = SqliteAnswerStore::open(dir).await.context("answers.db")?;
        let budget = SqliteBudgetStore::open(dir).await.context("budget.db")?;
        Ok(Accounts::Sqlite(Files {
            users: Arc::new(users),
            answers: Arc::new(answers),
            budget: Arc::new(budget),
        }))
    }

    pub fn users(&self) -> Arc<dyn UserStore> {
        match self {
            Accounts::Sqlite(files) => Arc::clone(&files.users) as Arc<dyn UserStore>,
            Accounts::Postgres(postgres) => Arc::new(postgres.users()),
        }
    }

    pub fn answers(&self) -> Arc<dyn AnswerStore> {
        match self {
            Accounts::Sqlite(files) => Arc::clone(&files.answers) as Arc<dyn AnswerStore>,
            Accounts::Postgres(postgres) => Arc::new(postgres.answers()),
        }
    }

    pub fn budget(&self) -> Arc<dyn BudgetStore> {
        match self {
            Accounts::Sqlite(files) => Arc::clone(&files.budget) as Arc<dyn BudgetStore>,
            Accounts::Postgres(postgres) => Arc::new(postgres.budget()),
        }
    }

    /// Finishes what runs and says goodbye to the database; further calls fail.
    pub async fn close(self) {
        match self {
            Accounts::Sqlite(files) => {
                files.users.close().await;
                files.answers.close().await;
                files.budget.close().await;
            }
            Accounts::Postgres(postgres) => postgres.close().await,
        }
    }
}

#[derive(Clone)]
pub(super) enum Log {
    Disk(Arc<DiskLog>),
    Memory(Arc<MemoryLog>),
    Redis(Arc<RedisLog>),
}

impl Log {
    pub fn store(&self) -> Arc<dyn LogStore> {
        match self {
            Log::Disk(log) => Arc::clone(log) as Arc<dyn LogStore>,
            Log::Memory(log) => Arc::clone(log) as Arc<dyn LogStore>,
            Log::Redis(log) => Arc::clone(log) as Arc<dyn LogStore>,
        }
    }

    /// Where it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Log::Disk(_) => "disk",
            Log::Memory(_) => "memory",
            Log::Redis(_) => "redis",
        }
    }

    /// Waits until what was accepted is on disk.
    pub async fn close(self) {
        if let Log::Disk(log) = self {
            log.close().await;
        }
    }
}

/// Brings the schemas of the configured stores up to date; returns what was looked at.
///
/// # Errors
/// As [`super::start`].
pub async fn migrate(config: &Config) -> anyhow::Result<Vec<String>> {
    let _lock = claim_data_dir(&config.data_dir)?;
    let file = |name: &str| config.data_dir.join(name).display().to_string();
    let tables = open_dynamo(config).await?.ensure_tables().await;
    let tables = tables.with_context(|| keeper_of_scenarios(config))?;
    let stores = Stores::open(config).await?;
    stores.accounts.close().await;
    stores.log.close().await;
    let mut looked_at = match &config.database.url {
        Some(url) => {
            let server = database::parse_url(url).map_err(anyhow::Error::msg)?;
            vec![format!("PostgreSQL {}", database::place(&server))]
        }
        None => ["users.db", "answers.db", "budget.db"].map(file).into(),
    };
    match config.dynamodb.engine() {
        DynamoEngine::Embedded => looked_at.push(file(HISTORY_FILE)),
        _ => looked_at.extend(tables.into_iter().map(|name| format!("table {name}"))),
    }
    if config.redis.url.is_none() {
        looked_at.push(file("events.db"));
    }
    Ok(looked_at)
}

/// The tables of the configured deployment, for infrastructure code.
pub fn print_tables(config: &Config) -> String {
    format!("{:#}", Deployment::new(&config.dynamodb.table_prefix, config.env).print())
}

/// The embedded engine's, in the data directory.
const HISTORY_FILE: &str = "history.db";

async fn open_dynamo(config: &Config) -> anyhow::Result<Dynamo> {
    let file = config.data_dir.join(HISTORY_FILE);
    let opened = Dynamo::open(&config.dynamodb, config.env, &file).await;
    opened.with_context(|| keeper_of_scenarios(config))
}

/// As an error message begins.
fn keeper_of_scenarios(config: &Config) -> String {
    match config.dynamodb.engine() {
        DynamoEngine::Embedded => HISTORY_FILE.to_owned(),
        DynamoEngine::Server { endpoint, .. } => format!("DynamoDB at {endpoint}"),
        DynamoEngine::Aws { region, .. } => format!("DynamoDB in {region}"),
    }
}

/// Makes the data directory and takes it for this process.
pub(super) fn claim_data_dir(dir: &Path) -> anyhow::Result<File> {
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

/// What replicas share, if they share a Redis; else what stands for it in this process.
struct Shared {
    log: Log,
    bus: Option<Arc<dyn ReplicaBus>>,
    revocations: Arc<dyn RevocationStore>,
    logins: Arc<dyn LoginStore>,
    cache: Arc<dyn CacheStore>,
    limits: Option<Arc<dyn RateLimiter>>,
    redis: Option<Redis>,
}

async fn open_shared(config: &Config) -> anyhow::Result<Shared> {
    if config.redis.url.is_none() {
        let log = match config.event_log.durability {
            Durability::Disk => Log::Disk(Arc::new(DiskLog::open(&config.data_dir)?)),
            Durability::Memory => Log::Memory(Arc::new(MemoryLog::new())),
        };
        return Ok(Shared {
            log,
            bus: None,
            revocations: Arc::new(LocalRevocations::default()),
            logins: Arc::new(LocalLogins::default()),
            cache: Arc::new(LocalCache::new(config.cache.memory_bytes)),
            limits: None,
            redis: None,
        });
    }
    let redis = Redis::connect(&config.redis).await?;
    let subscriptions = Subscriptions::start(&redis);
    Ok(Shared {
        bus: Some(Arc::new(RedisBus::new(redis.clone(), subscriptions.clone()))),
        revocations: Arc::new(RedisRevocations::new(redis.clone())),
        logins: Arc::new(RedisLogins::new(redis.clone())),
        cache: Arc::new(RedisCache::new(redis.clone())),
        limits: Some(Arc::new(RedisRateLimiter::new(redis.clone()))),
        redis: Some(redis.clone()),
        log: Log::Redis(Arc::new(RedisLog::new(redis, subscriptions, config.event_log.retention))),
    })
}
