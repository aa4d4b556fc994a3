//! Brings the schema up: forward only, by one process at a time, however many start at once.
//!
//! A database that is further than this program knows is left alone and used: while a release rolls out, old and new
//! programs run beside each other. `migrations/README.md` says what a migration may therefore do.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::time::{Instant, sleep, timeout_at};

use super::StoreError;
use super::error::{self, store_error};
use super::pool::with_name;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Longest wait for a lock: that of other migrators, and those on tables. Requests queue behind a migration that waits
/// for a table, so it steps back and tries again.
const LOCK_TIMEOUT: &str = "1s";
/// First and longest wait between tries.
const BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
const UNDEFINED_TABLE: &str = "42P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Why a try failed.
enum Failure {
    /// Waiting may help.
    Passing(StoreError),
    Final(StoreError),
    /// There is no time left.
    Late,
}

impl Failure {
    fn of(cause: sqlx::Error) -> Self {
        let passing = error::may_come_up(&cause) || error::code(&cause) == LOCK_NOT_AVAILABLE;
        let cause = store_error(cause);
        if passing { Failure::Passing(cause) } else { Failure::Final(cause) }
    }
}

/// Tries until the schema is up to date, `patience` is over or there is no hope. A migration that has begun may take
/// longer than that.
pub(super) async fn run(server: &PgConnectOptions, patience: Duration) -> Result<(), StoreError> {
    let server = with_name(server.clone());
    let deadline = Instant::now() + patience;
    let mut wait = BACKOFF;
    let mut passing = StoreError::Unavailable("the server did not answer in time".into());
    loop {
        passing = match migrate(&server, deadline).await {
            Ok(()) => return Ok(()),
            Err(Failure::Final(cause)) => return Err(cause),
            Err(Failure::Passing(cause)) => cause,
            // What it was before says more.
            Err(Failure::Late) => return Err(passing),
        };
        let pause = wait.mul_f64(rand::random_range(0.5..1.0));
        if Instant::now() + pause >= deadline {
            return Err(passing);
        }
        tracing::info!(cause = %passing, "waiting for the database");
        sleep(pause).await;
        wait = (wait * 2).min(MAX_BACKOFF);
    }
}

async fn migrate(server: &PgConnectOptions, deadline: Instant) -> Result<(), Failure> {
    let look = async {
        let mut connection = server.connect().await.map_err(Failure::of)?;
        let pending = prepare(&mut connection).await?;
        Ok((connection, pending))
    };
    let (mut connection, pending) =
        timeout_at(deadline, look).await.map_err(|_| Failure::Late)??;
    if pending {
        // An error leaves the migrators' lock taken; it goes with the connection.
        migrator().run_direct(None, &mut connection, false).await.map_err(migrate_error)?;
    }
    let _ = connection.close().await;
    Ok(())
}

/// Whether there is something to do. Only then are rights to change the schema needed.
async fn prepare(connection: &mut PgConnection) -> Result<bool, Failure> {
    sqlx::query("SELECT set_config('lock_timeout', $1, false)")
        .bind(LOCK_TIMEOUT)
        .execute(&mut *connection)
        .await
        .map_err(Failure::of)?;
    let applied: Result<Vec<(i64, Vec<u8>)>, _> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(&mut *connection)
            .await;
    let applied: HashMap<_, _> = match applied {
        Ok(applied) => applied.into_iter().collect(),
        Err(cause) if error::code(&cause) == UNDEFINED_TABLE => HashMap::new(),
        Err(cause) => return Err(Failure::of(cause)),
    };
    let mut pending = false;
    for migration in MIGRATIONS.iter() {
        match applied.get(&migration.version) {
            None => pending = true,
            Some(checksum) if **checksum == *migration.checksum => {}
            Some(_) => return Err(migrate_error(MigrateError::VersionMismatch(migration.version))),
        }
    }
    let read_only: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()")
        .fetch_one(connection)
        .await
        .map_err(Failure::of)?;
    if read_only {
        // The name may still lead to the server that was the primary.
        let cause = "the server is read-only: a replica, or one that is being failed over";
        return Err(Failure::Passing(StoreError::Unavailable(cause.into())));
    }
    Ok(pending)
}

/// The one that passes over versions it does not know.
fn migrator() -> Migrator {
    let mut migrator = Migrator::with_migrations(MIGRATIONS.iter().cloned().collect());
    migrator.set_ignore_missing(true);
    migrator
}

fn migrate_error(error: MigrateError) -> Failure {
    match error {
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
            Failure::of(cause)
        }
        error => Failure::Final(StoreError::Corrupt(format!(
            "not a version this program can bring up: {error}"
        ))),
    }
}
