//! SQLite back ends (sqlx): the embedded default for accounts, for answers kept by idempotency key and for what model calls
//! cost.
//!
//! One file per aggregate, so that the churn of one does not lock the other. This module opens files and turns
//! errors, times and ids; the stores beside it hold the statements. Called by nobody else.

pub mod budget;
pub mod idempotency;
pub mod user;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use uuid::Uuid;

use super::StoreError;

/// Longest that a statement waits for another writer, in this process or another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest that a statement waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest that one operation of a store takes altogether. Keep it under the deadline of the pools in front.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// Writers queue behind one another; more connections only help readers.
const MAX_CONNECTIONS: u32 = 4;

/// An open database file.
#[derive(Debug, Clone)]
struct Database {
    pool: SqlitePool,
}

impl Database {
    /// Opens `file`, made if missing, readable by its owner only, and brings it to the newest version.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is no database or was written by a newer version, else
    /// [`StoreError::Unavailable`]; both name the file.
    async fn open(
        file: &Path,
        synchronous: SqliteSynchronous,
        migrator: &Migrator,
    ) -> Result<Self, StoreError> {
        create_private(file)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", file.display())))?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(synchronous)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            // Local connections do not go stale; reopening them only costs.
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await
            .map_err(|error| in_file(file, store_error(error)))?;
        let migrated = migrator.run(&pool).await;
        if let Err(error) = migrated {
            pool.close().await;
            return Err(in_file(file, migrate_error(error)));
        }
        Ok(Self { pool })
    }

    /// Runs one operation within its time.
    async fn run<T>(
        &self,
        operation: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(OPERATION_TIMEOUT, operation).await {
            Ok(outcome) => outcome.map_err(store_error),
            Err(_) => Err(StoreError::Unavailable("the database did not answer in time".into())),
        }
    }

    async fn probe(&self) -> Result<(), StoreError> {
        // Reads the file, unlike `SELECT 1`.
        let probe = sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&self.pool);
        self.run(probe).await.map(|_| ())
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

/// Creates the file before SQLite does: it and the journals beside it take over the mode.
fn create_private(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map(|_| ())
}

fn in_file(file: &Path, error: StoreError) -> StoreError {
    let file = file.display();
    match error {
        StoreError::Corrupt(cause) => StoreError::Corrupt(format!("{file}: {cause}")),
        StoreError::Unavailable(cause) => StoreError::Unavailable(format!("{file}: {cause}")),
        other => other,
    }
}

fn migrate_error(error: sqlx::migrate::MigrateError) -> StoreError {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            store_error(error)
        }
        error => StoreError::Corrupt(format!("not a version this program can bring up: {error}")),
    }
}

// Primary result codes of SQLite.
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const NOT_A_DATABASE: i32 = 26;

fn store_error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(cause) => {
            if cause.is_unique_violation() {
                return StoreError::Conflict("exists already");
            }
            if cause.is_foreign_key_violation() {
                return StoreError::Conflict("refers to something that is gone");
            }
            let code = cause.code().and_then(|code| i32::from_str(&code).ok()).unwrap_or(0) & 0xff;
            let what = match code {
                BUSY | LOCKED => "locked by another process",
                READ_ONLY => "not writable",
                FULL => "the disk is full",
                CANNOT_OPEN => "cannot be opened",
                NOT_A_DATABASE => return StoreError::Corrupt("not a SQLite database".into()),
                // The file broke under us: the store fails, not one record.
                CORRUPT => "the file is damaged",
                _ => "database error",
            };
            StoreError::Unavailable(format!("{what}: {cause}"))
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
            StoreError::Corrupt(error.to_string())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

fn time(micros: i64, column: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros)
        .map_err(|_| StoreError::Corrupt(format!("{column} is not a time")))
}

fn uuid(bytes: &[u8], column: &str) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|_| StoreError::Corrupt(format!("{column} is not an id")))
}

fn digest(bytes: &[u8], column: &str) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("{column} is not a SHA-256")))
}

fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
