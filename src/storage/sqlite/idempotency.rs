//! Answers by idempotency key in `answers.db`.

use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteSynchronous;

use super::{Database, digest, limit, micros, time, uuid};
use crate::storage::StoreError;
use crate::storage::idempotency::{
    AnswerKey, AnswerStore, Begun, Fingerprint, Held, HeldState, NewClaim, Verdict,
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite/answers");

#[derive(Debug, Clone)]
pub struct SqliteAnswerStore {
    database: Database,
}

impl SqliteAnswerStore {
    /// Opens `<folder>/answers.db`, made if missing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Unavailable`], both naming the file.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        // A power cut may lose the last claims; what they guarded is created by id and not doubled by that.
        let synchronous = SqliteSynchronous::Normal;
        let file = folder.join("answers.db");
        Ok(Self { database: Database::open(&file, synchronous, &MIGRATIONS).await? })
    }

    /// Finishes what runs and closes the file. Further calls fail.
    pub async fn close(&self) {
        self.database.close().await;
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    fingerprint: Vec<u8>,
    reserved: Vec<u8>,
    attempt: u32,
    claimed_until: Option<i64>,
    status: Option<u16>,
    body: Option<Vec<u8>>,
    expires_at: i64,
}

impl TryFrom<Row> for Held {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let state = match (row.status, row.body, row.claimed_until) {
            (Some(status), Some(body), _) => HeldState::Answered { status, body },
            (_, _, Some(until)) => {
                HeldState::Claimed { until: time(until, "answers.claimed_until")? }
            }
            _ => HeldState::Abandoned,
        };
        Ok(Held {
            fingerprint: Fingerprint(digest(&row.fingerprint, "answers.fingerprint")?),
            reserved: uuid(&row.reserved, "answers.reserved")?,
            attempt: row.attempt,
            state,
            expires_at: time(row.expires_at, "answers.expires_at")?,
        })
    }
}

#[async_trait]
impl AnswerStore for SqliteAnswerStore {
    async fn begin(&self, claim: &NewClaim) -> Result<Begun, StoreError> {
        let operation = async {
            // The write lock first: nobody decides on what someone else is about to change.
            let mut transaction = self.database.pool.begin_with("BEGIN IMMEDIATE").await?;
            let row = sqlx::query_as::<_, Row>(
                "SELECT fingerprint, reserved, attempt, claimed_until, status, body, expires_at
                 FROM answers WHERE scope = ?1 AND key = ?2",
            )
            .bind(&claim.key.scope)
            .bind(&claim.key.key)
            .fetch_optional(&mut *transaction)
            .await?;
            let held = match row.map(Held::try_from).transpose() {
                Ok(held) => held,
                Err(error) => return Ok(Err(error)),
            };
            let (reserved, attempt) = match claim.judge(held) {
                Verdict::Told(begun) => return Ok(Ok(begun)),
                Verdict::Claim { reserved, attempt } => (reserved, attempt),
            };
            sqlx::query(
                "INSERT OR REPLACE INTO answers (scope, key, fingerprint, reserved, attempt,
                     claimed_until, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .bind(&claim.key.scope)
            .bind(&claim.key.key)
            .bind(claim.fingerprint.0.as_slice())
            .bind(reserved.as_bytes().as_slice())
            .bind(attempt)
            .bind(micros(claim.until))
            .bind(micros(claim.expires_at))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(Ok(Begun::New { reserved, attempt }))
        };
        self.database.run(operation).await?
    }

    async fn finish(&self, key: &AnswerKey, status: u16, body: &[u8]) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE answers SET status = ?3, body = ?4
             WHERE scope = ?1 AND key = ?2 AND status IS NULL",
        )
        .bind(&key.scope)
        .bind(&key.key)
        .bind(status)
        .bind(body);
        self.database.run(query.execute(&self.database.pool)).await.map(|_| ())
    }

    async fn abandon(&self, key: &AnswerKey, attempt: u32) -> Result<(), StoreError> {
        let query = sqlx::query(
            "UPDATE answers SET claimed_until = NULL
             WHERE scope = ?1 AND key = ?2 AND attempt = ?3 AND status IS NULL",
        )
        .bind(&key.scope)
        .bind(&key.key)
        .bind(attempt);
        self.database.run(query.execute(&self.database.pool)).await.map(|_| ())
    }

    async fn purge(&self, now: Timestamp, most: usize) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "DELETE FROM answers WHERE rowid IN
                 (SELECT rowid FROM answers WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
        )
        .bind(micros(now))
        .bind(limit(most));
        let done = self.database.run(query.execute(&self.database.pool)).await?;
        Ok(done.rows_affected())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.database.probe().await
    }
}
