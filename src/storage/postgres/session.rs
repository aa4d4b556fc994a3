//! One operation on a connection: within its time, tried again where that is safe, and never leaving a connection
//! behind in the middle of something.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::query::{Query, QueryAs};
use sqlx::{FromRow, pool::PoolConnection};
use tokio::time::{Instant, sleep, timeout_at};

use super::StoreError;
use super::error::{self, Kind};
use super::pool::Pool;

/// Longest that one operation of a store takes altogether. Keep it under the deadline of the pools in front.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(4);
/// Tries of an operation that others made fail, the first included.
const MAX_ATTEMPTS: u32 = 5;
/// First wait between tries; doubled each time, and a random part of it.
const BACKOFF: Duration = Duration::from_millis(10);

/// Whether an operation may run a second time after it perhaps ran once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It comes to the same.
    Safe,
    /// The caller would be told something else. Tried again only when it certainly did not happen.
    Unsafe,
}

impl Pool {
    /// Runs an operation, which takes its [`Session`] from this pool each time that it is tried.
    pub async fn run<T, F>(
        &self,
        repeat: Repeat,
        operation: impl Fn() -> F + Send,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>> + Send,
    {
        let deadline = Instant::now() + OPERATION_TIMEOUT;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failure = match timeout_at(deadline, operation()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(failure)) => failure,
                Err(_) => {
                    let late = "the database did not answer in time";
                    return Err(StoreError::Unavailable(late.into()));
                }
            };
            self.note(&failure);
            let again = match error::kind(&failure) {
                Kind::Contended => true,
                Kind::Lost => repeat == Repeat::Safe,
                Kind::Other => false,
            };
            let wait = BACKOFF * 2_u32.saturating_pow(attempt - 1);
            let wait = wait.mul_f64(rand::random_range(0.5..1.0));
            if !again || attempt >= MAX_ATTEMPTS || Instant::now() + wait >= deadline {
                return Err(self.store_error(failure));
            }
            tracing::debug!(%failure, attempt, "database operation is tried again");
            sleep(wait).await;
        }
    }

    /// One statement; returns the rows it changed.
    pub async fn execute<'q>(
        &self,
        repeat: Repeat,
        query: impl Fn() -> Statement<'q> + Send + Sync,
    ) -> Result<u64, StoreError> {
        self.run(repeat, || async { self.session().await?.execute(query()).await }).await
    }

    /// One row, if there is one. Reads may always be repeated.
    pub async fn find<'q, R: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
        &self,
        query: impl Fn() -> Lookup<'q, R> + Send + Sync,
    ) -> Result<Option<R>, StoreError> {
        self.run(Repeat::Safe, || async { self.session().await?.find(query()).await }).await
    }

    /// All rows. Reads may always be repeated.
    pub async fn list<'q, R: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
        &self,
        query: impl Fn() -> Lookup<'q, R> + Send + Sync,
    ) -> Result<Vec<R>, StoreError> {
        self.run(Repeat::Safe, || async { self.session().await?.list(query()).await }).await
    }
}

pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;
pub(super) type Lookup<'q, R> = QueryAs<'q, Postgres, R, PgArguments>;

/// A connection in use. Given up while a statement or a transaction is under way, it is closed and not given back:
/// the server then rolls back, and nobody else waits for the answer.
pub(super) struct Session {
    /// Present until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    busy: bool,
    in_transaction: bool,
}

impl Session {
    pub(super) fn new(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Some(connection), busy: false, in_transaction: false }
    }

    pub async fn execute(&mut self, query: Statement<'_>) -> Result<u64, sqlx::Error> {
        let outcome = query.execute(self.begin_work()).await;
        self.end_work(outcome).map(|done| done.rows_affected())
    }

    pub async fn find<R: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
        &mut self,
        query: Lookup<'_, R>,
    ) -> Result<Option<R>, sqlx::Error> {
        let outcome = query.fetch_optional(self.begin_work()).await;
        self.end_work(outcome)
    }

    pub async fn list<R: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
        &mut self,
        query: Lookup<'_, R>,
    ) -> Result<Vec<R>, sqlx::Error> {
        let outcome = query.fetch_all(self.begin_work()).await;
        self.end_work(outcome)
    }

    pub async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.execute(sqlx::query("BEGIN")).await?;
        self.in_transaction = true;
        Ok(())
    }

    pub async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    pub async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    async fn end(&mut self, how: &'static str) -> Result<(), sqlx::Error> {
        self.execute(sqlx::query(how)).await?;
        self.in_transaction = false;
        Ok(())
    }

    fn begin_work(&mut self) -> &mut PgConnection {
        self.busy = true;
        self.connection.as_mut().expect("a session has its connection until it is dropped")
    }

    fn end_work<T>(&mut self, outcome: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.busy = outcome.as_ref().is_err_and(|failure| error::kind(failure) == Kind::Lost);
        outcome
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if (self.busy || self.in_transaction)
            && let Some(connection) = self.connection.take()
        {
            drop(connection.detach());
        }
    }
}
