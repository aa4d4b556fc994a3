//! Answers by idempotency key in PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{query, query_as};
use uuid::Uuid;

use super::pool::Pool;
use super::row::{Time, digest, limit};
use super::session::{Repeat, Statement};
use crate::storage::StoreError;
use crate::storage::idempotency::{
    AnswerKey, AnswerStore, Begun, Fingerprint, Held, HeldState, NewClaim, Verdict,
};

/// Times that a key may vanish between two looks at it, before it is called busy.
const LOOKS: usize = 3;

#[derive(Debug, Clone)]
pub struct PostgresAnswerStore {
    primary: Pool,
}

impl PostgresAnswerStore {
    pub(super) fn new(primary: Pool) -> Self {
        Self { primary }
    }

    /// The first attempt of a request, which is nearly every one, is the insertion alone. Otherwise the row is
    /// locked, judged and written in one transaction: nobody decides on what someone else is about to change.
    async fn claim(&self, claim: &NewClaim) -> Result<Result<Begun, StoreError>, sqlx::Error> {
        let mut session = self.primary.session().await?;
        for _ in 0..LOOKS {
            let insert = query(
                "INSERT INTO answers (scope, key, fingerprint, reserved, attempt, claimed_until,
                     expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (scope, key) DO NOTHING",
            );
            if session.execute(bind(insert, claim, claim.reserved, 1)).await? == 1 {
                return Ok(Ok(Begun::New { reserved: claim.reserved, attempt: 1 }));
            }
            session.begin().await?;
            let look = query_as::<_, Row>(
                "SELECT fingerprint, reserved, attempt, claimed_until, status, body, expires_at
                 FROM answers WHERE scope = $1 AND key = $2 FOR UPDATE",
            );
            let row = session.find(look.bind(&claim.key.scope).bind(&claim.key.key)).await?;
            let Some(row) = row else {
                // Purged in between: free again.
                session.roll_back().await?;
                continue;
            };
            let held = match Held::try_from(row) {
                Ok(held) => held,
                Err(error) => {
                    session.roll_back().await?;
                    return Ok(Err(error));
                }
            };
            let (reserved, attempt) = match claim.judge(Some(held)) {
                Verdict::Claim { reserved, attempt } => (reserved, attempt),
                Verdict::Told(begun) => {
                    session.roll_back().await?;
                    return Ok(Ok(begun));
                }
            };
            let update = query(
                "UPDATE answers SET fingerprint = $3, reserved = $4, attempt = $5,
                     claimed_until = $6, expires_at = $7, status = NULL, body = NULL
                 WHERE scope = $1 AND key = $2",
            );
            session.execute(bind(update, claim, reserved, attempt)).await?;
            session.commit().await?;
            return Ok(Ok(Begun::New { reserved, attempt }));
        }
        Ok(Ok(Begun::InProgress))
    }
}

fn bind<'q>(
    statement: Statement<'q>,
    claim: &'q NewClaim,
    reserved: Uuid,
    attempt: u32,
) -> Statement<'q> {
    statement
        .bind(&claim.key.scope)
        .bind(&claim.key.key)
        .bind(claim.fingerprint.0.as_slice())
        .bind(reserved)
        .bind(i64::from(attempt))
        .bind(Time(claim.until))
        .bind(Time(claim.expires_at))
}

#[derive(sqlx::FromRow)]
struct Row {
    fingerprint: Vec<u8>,
    reserved: Uuid,
    attempt: i64,
    claimed_until: Option<Time>,
    status: Option<i32>,
    body: Option<Vec<u8>>,
    expires_at: Time,
}

impl TryFrom<Row> for Held {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = |what: &str| StoreError::Corrupt(what.into());
        let state = match (row.status, row.body, row.claimed_until) {
            (Some(status), Some(body), _) => {
                let status = u16::try_from(status);
                let status = status.map_err(|_| corrupt("answers.status is not a status"))?;
                HeldState::Answered { status, body }
            }
            (_, _, Some(until)) => HeldState::Claimed { until: until.0 },
            _ => HeldState::Abandoned,
        };
        Ok(Held {
            fingerprint: Fingerprint(digest(&row.fingerprint, "answers.fingerprint")?),
            reserved: row.reserved,
            attempt: u32::try_from(row.attempt)
                .map_err(|_| corrupt("answers.attempt is not a number of attempts"))?,
            state,
            expires_at: row.expires_at.0,
        })
    }
}

#[async_trait]
impl AnswerStore for PostgresAnswerStore {
    async fn begin(&self, claim: &NewClaim) -> Result<Begun, StoreError> {
        // Not repeated after a lost connection: it would find its own claim and call it another's.
        self.primary.run(Repeat::Unsafe, || self.claim(claim)).await?
    }

    async fn finish(&self, key: &AnswerKey, status: u16, body: &[u8]) -> Result<(), StoreError> {
        let statement = || {
            query(
                "UPDATE answers SET status = $3, body = $4
                 WHERE scope = $1 AND key = $2 AND status IS NULL",
            )
            .bind(&key.scope)
            .bind(&key.key)
            .bind(i32::from(status))
            .bind(body)
        };
        self.primary.execute(Repeat::Safe, statement).await.map(|_| ())
    }

    async fn abandon(&self, key: &AnswerKey, attempt: u32) -> Result<(), StoreError> {
        let statement = || {
            query(
                "UPDATE answers SET claimed_until = NULL
                 WHERE scope = $1 AND key = $2 AND attempt = $3 AND status IS NULL",
            )
            .bind(&key.scope)
            .bind(&key.key)
            .bind(i64::from(attempt))
        };
        self.primary.execute(Repeat::Safe, statement).await.map(|_| ())
    }

    async fn purge(&self, now: Timestamp, most: usize) -> Result<u64, StoreError> {
        // Replicas purge at the same time: each takes what no other has taken.
        let statement = || {
            query(
                "DELETE FROM answers WHERE (scope, key) IN
                     (SELECT scope, key FROM answers WHERE expires_at <= $1
                      ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)",
            )
            .bind(Time(now))
            .bind(limit(most))
        };
        self.primary.execute(Repeat::Safe, statement).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.primary.probe().await
    }
}
