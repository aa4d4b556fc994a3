//! PostgreSQL back ends (sqlx): accounts, answers kept by idempotency key and what model calls cost, shared by all
//! replicas.
//!
//! `pool.rs` opens connections and `session.rs` runs operations on them, with limits and retries; `error.rs` says what
//! a failure means; `migrate.rs` brings the schema up; `replica.rs` and `ledger.rs` decide which reads a replica of
//! the database may serve. The stores hold the statements. Built by `boot` only.

pub mod budget;
mod error;
pub mod idempotency;
mod ledger;
mod migrate;
mod pool;
mod replica;
mod row;
mod session;
pub mod user;

use std::sync::Arc;

use self::budget::PostgresBudgetStore;
use self::idempotency::PostgresAnswerStore;
use self::pool::{Pool, Role};
use self::replica::Replica;
use self::user::PostgresUserStore;
use super::StoreError;
use crate::config::database::{self, Database};

/// A database, with the newest schema that this program knows or a newer one.
#[derive(Debug, Clone)]
pub struct Postgres {
    primary: Pool,
    replica: Option<Arc<Replica>>,
}

impl Postgres {
    /// Waits for the server, up to `timeout`, and brings the schema up to date. Does not wait for the replica.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Corrupt`], both with the server's name and without a secret.
    pub async fn open(config: &Database) -> Result<Self, StoreError> {
        let Some(url) = &config.url else {
            return Err(StoreError::Unavailable("no database.url (DATABASE_URL)".into()));
        };
        let server = database::parse_url(url).map_err(StoreError::Unavailable)?;
        let place = database::place(&server);
        migrate::run(&server, config.timeout).await.map_err(|error| at_place(&place, error))?;
        let replica = match &config.read_url {
            Some(url) => {
                let server = database::parse_url(url).map_err(StoreError::Unavailable)?;
                let pool = Pool::new(server, Role::Replica, config);
                Some(Arc::new(Replica::new(pool, config.staleness)))
            }
            None => None,
        };
        Ok(Self { primary: Pool::new(server, Role::Primary, config), replica })
    }

    pub fn users(&self) -> PostgresUserStore {
        PostgresUserStore::new(self.primary.clone(), self.replica.clone())
    }

    pub fn answers(&self) -> PostgresAnswerStore {
        PostgresAnswerStore::new(self.primary.clone())
    }

    pub fn budget(&self) -> PostgresBudgetStore {
        PostgresBudgetStore::new(self.primary.clone())
    }

    /// Finishes what runs and closes every connection. Further calls fail.
    pub async fn close(&self) {
        self.primary.close().await;
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
    }
}

fn at_place(place: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(cause) => StoreError::Corrupt(format!("{place}: {cause}")),
        StoreError::Unavailable(cause) => StoreError::Unavailable(format!("{place}: {cause}")),
        other => other,
    }
}
