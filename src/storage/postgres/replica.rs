//! Reads from a replica of the database, as long as it is not too far behind; the primary serves all others.
//!
//! What a read needs is in `ledger.rs`. The replica is asked on the very connection that then serves the read, and
//! before it, since behind one name there may be several. Whatever goes wrong with a replica sends the read to the
//! primary, and further reads with it for a while.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use tokio::time::{Instant, timeout};

use super::StoreError;
use super::ledger::{Ledger, Need, Position};
use super::pool::Pool;
use super::session::{Lookup, Repeat, Session};
use crate::domain::ids::UserId;

/// Longest that a read spends on the replica before the primary is asked.
const PATIENCE: Duration = Duration::from_millis(500);
/// First and longest time that a replica is left alone after a failure; doubled each time.
const AWAY: Duration = Duration::from_millis(500);
const MAX_AWAY: Duration = Duration::from_secs(30);

/// The newest position whose record may have been written, in bytes. Not the flushed one: a commit that does not wait
/// for the disk is visible before that.
const WRITTEN: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
/// What a replica shows, at least. The name may also lead to a primary. Some services have no answer: then it is NULL.
const REPLAYED: &str = "SELECT ((CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
    ELSE pg_current_wal_insert_lsn() END) - '0/0'::pg_lsn)::bigint";

#[derive(Debug)]
pub(super) struct Replica {
    pool: Pool,
    staleness: Duration,
    ledger: Mutex<Ledger>,
    /// Held while the primary is asked where it is: one at a time, the others use the answer.
    asking: tokio::sync::Mutex<()>,
    absence: Mutex<Absence>,
}

/// How a read on the replica ended.
enum Outcome<R> {
    Found(R),
    /// Not there, or not there yet.
    Absent,
    Behind,
}

impl Replica {
    pub fn new(pool: Pool, staleness: Duration) -> Self {
        let (ledger, asking, absence) = Default::default();
        Self { pool, staleness, ledger, asking, absence }
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Where the primary is after a write on this connection; `None` if it does not say.
    pub async fn position_after_write(session: &mut Session) -> Option<Position> {
        position(session, WRITTEN).await.ok().flatten()
    }

    /// To be called after every write of what [`Replica::find`] reads, also one that failed without a clear answer.
    pub fn wrote(&self, user: UserId, position: Option<Position>) {
        lock(&self.ledger).wrote(user, position, Instant::now());
    }

    /// The row of `user`, if the replica has it and may serve it. `None`: ask the primary.
    pub async fn find<'q, R: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
        &self,
        primary: &Pool,
        user: UserId,
        query: Lookup<'q, R>,
    ) -> Option<R> {
        let started = Instant::now();
        if !lock(&self.absence).may_ask(started) {
            return served("away", None);
        }
        let Some(needed) = self.needed(primary, user, started).await else {
            return served("unknown", None);
        };
        match timeout(PATIENCE, self.ask(needed, query)).await {
            Ok(Ok(outcome)) => {
                lock(&self.absence).end();
                match outcome {
                    Outcome::Found(row) => served("replica", Some(row)),
                    Outcome::Absent => served("absent", None),
                    Outcome::Behind => served("behind", None),
                }
            }
            Ok(Err(cause)) => {
                self.pool.note(&cause);
                self.failed(&self.pool.store_error(cause).to_string())
            }
            Err(_) => self.failed("no answer in time"),
        }
    }

    /// How far the replica has to be; `None` if only the primary will do.
    async fn needed(&self, primary: &Pool, user: UserId, started: Instant) -> Option<Position> {
        let need = || lock(&self.ledger).need(user, started, self.staleness);
        if need() == Need::Horizon {
            let look = async {
                let _one_at_a_time = self.asking.lock().await;
                // Perhaps someone who asked since this read began has answered for it.
                if need() == Need::Horizon {
                    self.look_at(primary).await?;
                }
                Ok::<_, StoreError>(())
            };
            timeout(PATIENCE, look).await.ok()?.ok()?;
        }
        match need() {
            Need::Replayed(position) => Some(position),
            Need::Horizon | Need::Primary => None,
        }
    }

    /// Asks the primary where it is.
    async fn look_at(&self, primary: &Pool) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        let position = primary
            .run(Repeat::Safe, || async { position(&mut primary.session().await?, WRITTEN).await })
            .await?;
        if let Some(position) = position {
            lock(&self.ledger).saw(position, asked_at);
        }
        Ok(())
    }

    async fn ask<R: for<'r> FromRow<'r, PgRow> + Send + Unpin>(
        &self,
        needed: Position,
        query: Lookup<'_, R>,
    ) -> Result<Outcome<R>, sqlx::Error> {
        let mut session = self.pool.session().await?;
        // A statement of its own: within one, the rows could be older than the position.
        match position(&mut session, REPLAYED).await? {
            Some(replayed) if replayed >= needed => {}
            _ => return Ok(Outcome::Behind),
        }
        Ok(session.find(query).await?.map_or(Outcome::Absent, Outcome::Found))
    }

    fn failed<R>(&self, cause: &str) -> Option<R> {
        let away = lock(&self.absence).begin(Instant::now());
        let retry_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(cause, retry_ms, "read replica failed, the primary serves");
        served("failed", None)
    }
}

fn served<R>(outcome: &'static str, row: Option<R>) -> Option<R> {
    metrics::counter!("whatif_replica_reads_total", "outcome" => outcome).increment(1);
    row
}

async fn position(
    session: &mut Session,
    query: &'static str,
) -> Result<Option<Position>, sqlx::Error> {
    let row: Option<(Option<i64>,)> = session.find(sqlx::query_as(query)).await?;
    Ok(row.and_then(|(position,)| position).map(Position))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A replica that failed, left alone for longer and longer.
#[derive(Debug, Default)]
struct Absence {
    until: Option<Instant>,
    failures: u32,
}

impl Absence {
    /// Of those who come when the time is over, one tries, and the others wait for what comes of it.
    fn may_ask(&mut self, now: Instant) -> bool {
        match self.until {
            None => true,
            Some(until) if until > now => false,
            Some(_) => {
                self.until = Some(now + PATIENCE);
                true
            }
        }
    }

    /// Returns for how long.
    fn begin(&mut self, now: Instant) -> Duration {
        let away = AWAY.saturating_mul(2_u32.saturating_pow(self.failures)).min(MAX_AWAY);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + away);
        away
    }

    fn end(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_fails_is_tried_by_one_reader_at_a_time_and_less_and_less() {
        let mut now = Instant::now();
        let mut absence = Absence::default();
        assert!(absence.may_ask(now) && absence.may_ask(now));
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let away = absence.begin(now);
            pauses.push(away.as_millis());
            assert!(!absence.may_ask(now));
            now += away;
            assert!(absence.may_ask(now));
            assert!(!absence.may_ask(now), "one is trying");
        }
        assert_eq!(pauses[..3], [500, 1_000, 2_000]);
        assert_eq!(pauses[9], 30_000);
        absence.end();
        assert!(absence.may_ask(now) && absence.may_ask(now));
        assert_eq!(absence.begin(now), AWAY);
    }
}
