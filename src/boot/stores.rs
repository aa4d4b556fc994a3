//! Opens the stores that the configuration asks for, and closes them again.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::{Config, Durability};
use crate::storage::dynamodb::Dynamo;
use crate::storage::embedded::{DiskLog, LocalRevocations, MemoryLog};
use crate::storage::idempotency::AnswerStore;
use crate::storage::limits::RateLimiter;
use crate::storage::log::LogStore;
use crate::storage::redis::{Redis, RedisRateLimiter, RedisRevocations};
use crate::storage::revocation::RevocationStore;
use crate::storage::sqlite::idempotency::SqliteAnswerStore;
use crate::storage::sqlite::user::SqliteUserStore;
use crate::storage::user::UserStore;

/// Everything that a replica keeps, whatever keeps it.
pub(super) struct Stores {
    pub users: Arc<dyn UserStore>,
    pub revocations: Arc<dyn RevocationStore>,
    /// Counted over all replicas; without it each counts for itself.
    pub limits: Option<Arc<dyn RateLimiter>>,
    pub answers: Arc<dyn AnswerStore>,
    pub dynamo: Dynamo,
    pub log: Log,
}

impl Stores {
    /// Opens every store and brings its schema up to date.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let dir = &config.data_dir;
        let users = SqliteUserStore::open(dir).await.context("users.db")?;
        let answers = SqliteAnswerStore::open(dir).await.context("answers.db")?;
        let dynamo = Dynamo::embedded(&dir.join("history.db")).await.context("history.db")?;
        dynamo.ensure_tables().await.context("history.db")?;
        let log = open_log(config)?;
        let (revocations, limits) = open_shared(config).await?;
        Ok(Self {
            users: Arc::new(users),
            revocations,
            limits,
            answers: Arc::new(answers),
            dynamo,
            log,
        })
    }
}

#[derive(Clone)]
pub(super) enum Log {
    Disk(Arc<DiskLog>),
    Memory(Arc<MemoryLog>),
}

impl Log {
    pub fn store(&self) -> Arc<dyn LogStore> {
        match self {
            Log::Disk(log) => Arc::clone(log) as Arc<dyn LogStore>,
            Log::Memory(log) => Arc::clone(log) as Arc<dyn LogStore>,
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
/// As [`start`].
pub async fn migrate(config: &Config) -> anyhow::Result<Vec<String>> {
    let _lock = claim_data_dir(&config.data_dir)?;
    let file = |name: &str| config.data_dir.join(name).display().to_string();
    Stores::open(config).await?.log.close().await;
    Ok(["users.db", "answers.db", "history.db", "events.db"].map(file).into())
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

type Shared = (Arc<dyn RevocationStore>, Option<Arc<dyn RateLimiter>>);

/// What replicas tell each other, if they share a Redis.
async fn open_shared(config: &Config) -> anyhow::Result<Shared> {
    if config.redis.url.is_none() {
        return Ok((Arc::new(LocalRevocations::default()), None));
    }
    let redis = Redis::connect(&config.redis).await?;
    let limits = RedisRateLimiter::new(redis.clone());
    Ok((Arc::new(RedisRevocations::new(redis)), Some(Arc::new(limits))))
}

fn open_log(config: &Config) -> anyhow::Result<Log> {
    Ok(match config.event_log.durability {
        Durability::Disk => Log::Disk(Arc::new(DiskLog::open(&config.data_dir)?)),
        Durability::Memory => Log::Memory(Arc::new(MemoryLog::new())),
    })
}
