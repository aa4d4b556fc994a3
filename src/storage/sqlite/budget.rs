//! What model calls cost, in `budget.db`.

use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnection, SqliteSynchronous};
use uuid::Uuid;

use super::{Database, limit, micros, uuid};
use crate::domain::budget::{Amount, Cap, Purse};
use crate::domain::ids::TurnId;
use crate::storage::StoreError;
use crate::storage::budget::{BudgetStore, NewReservation, OpenReservation, Reserved, Taken};
use crate::storage::sql::{stored, told};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite/budget");

#[derive(Debug, Clone)]
pub struct SqliteBudgetStore {
    database: Database,
}

impl SqliteBudgetStore {
    /// Opens `<folder>/budget.db`, made if missing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Unavailable`], both naming the file.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        let file = folder.join("budget.db");
        Ok(Self { database: Database::open(&file, SqliteSynchronous::Full, &MIGRATIONS).await? })
    }

    /// Finishes what runs and closes the file. Further calls fail.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Takes from one purse; `false`: it does not give so much.
    async fn take(
        connection: &mut SqliteConnection,
        reservation: &NewReservation,
        purse: &Purse,
        cap: Cap,
    ) -> Result<bool, sqlx::Error> {
        let amount = reservation.amount;
        if !cap.allows(Amount::default(), amount) {
            return Ok(false);
        }
        let taken = sqlx::query(
            "INSERT INTO purses (name, tokens, micros, reserved_tokens, reserved_micros,
                 remember_until)
             VALUES (?1, 0, 0, ?2, ?3, ?4)
             ON CONFLICT (name) DO UPDATE SET
                 reserved_tokens = reserved_tokens + ?2,
                 reserved_micros = reserved_micros + ?3,
                 remember_until = max(remember_until, ?4)
             WHERE (?5 IS NULL OR tokens + reserved_tokens + ?2 <= ?5)
               AND (?6 IS NULL OR micros + reserved_micros + ?3 <= ?6)",
        )
        .bind(purse.key())
        .bind(stored(amount.tokens))
        .bind(stored(amount.micros))
        .bind(micros(reservation.now + purse.kept_for()))
        .bind(cap.tokens.map(stored))
        .bind(cap.micros.map(stored))
        .execute(connection)
        .await?;
        Ok(taken.rows_affected() == 1)
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Vec<u8>,
    tokens: i64,
    micros: i64,
}

impl TryFrom<Row> for OpenReservation {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let amount = Amount { tokens: told(row.tokens), micros: told(row.micros) };
        Ok(Self { id: uuid(&row.id, "reservations.id")?, amount })
    }
}

#[async_trait]
impl BudgetStore for SqliteBudgetStore {
    async fn reserve(&self, reservation: &NewReservation) -> Result<Reserved, StoreError> {
        let operation = async {
            let mut transaction = self.database.pool.begin_with("BEGIN IMMEDIATE").await?;
            let names: Vec<String> = reservation.purses.iter().map(|(p, _)| p.key()).collect();
            let noted = sqlx::query(
                "INSERT INTO reservations (id, turn, purses, tokens, micros, due)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO NOTHING",
            )
            .bind(reservation.id.as_bytes().as_slice())
            .bind(reservation.turn.0.as_bytes().as_slice())
            .bind(names.join("\n"))
            .bind(stored(reservation.amount.tokens))
            .bind(stored(reservation.amount.micros))
            .bind(micros(reservation.due))
            .execute(&mut *transaction)
            .await?;
            if noted.rows_affected() == 0 {
                return Ok(Reserved::Granted);
            }
            for (purse, cap) in &reservation.purses {
                if !Self::take(&mut transaction, reservation, purse, *cap).await? {
                    return Ok(Reserved::Exhausted(*purse));
                }
            }
            transaction.commit().await?;
            Ok(Reserved::Granted)
        };
        self.database.run(operation).await
    }

    async fn settle(&self, id: Uuid, spent: Amount) -> Result<bool, StoreError> {
        let operation = async {
            let mut transaction = self.database.pool.begin_with("BEGIN IMMEDIATE").await?;
            let settled = sqlx::query_as::<_, (String, i64, i64)>(
                "DELETE FROM reservations WHERE id = ?1 RETURNING purses, tokens, micros",
            )
            .bind(id.as_bytes().as_slice())
            .fetch_optional(&mut *transaction)
            .await?;
            let Some((purses, tokens, cost)) = settled else { return Ok(false) };
            for purse in purses.lines() {
                sqlx::query(
                    "UPDATE purses SET
                         reserved_tokens = max(reserved_tokens - ?2, 0),
                         reserved_micros = max(reserved_micros - ?3, 0),
                         tokens = tokens + ?4, micros = micros + ?5
                     WHERE name = ?1",
                )
                .bind(purse)
                .bind(tokens)
                .bind(cost)
                .bind(stored(spent.tokens))
                .bind(stored(spent.micros))
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await?;
            Ok(true)
        };
        self.database.run(operation).await
    }

    async fn list_open(&self, turn: TurnId) -> Result<Vec<OpenReservation>, StoreError> {
        let query = sqlx::query_as("SELECT id, tokens, micros FROM reservations WHERE turn = ?1")
            .bind(turn.0.as_bytes().as_slice());
        let rows: Vec<Row> = self.database.run(query.fetch_all(&self.database.pool)).await?;
        rows.into_iter().map(OpenReservation::try_from).collect()
    }

    async fn list_due(
        &self,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<OpenReservation>, StoreError> {
        let query = sqlx::query_as(
            "SELECT id, tokens, micros FROM reservations WHERE due <= ?1 ORDER BY due LIMIT ?2",
        )
        .bind(micros(now))
        .bind(limit(most));
        let rows: Vec<Row> = self.database.run(query.fetch_all(&self.database.pool)).await?;
        rows.into_iter().map(OpenReservation::try_from).collect()
    }

    async fn look(&self, purses: &[Purse]) -> Result<Vec<Taken>, StoreError> {
        let operation = async {
            let mut connection = self.database.pool.acquire().await?;
            let mut looked = Vec::with_capacity(purses.len());
            for purse in purses {
                let row = sqlx::query_as::<_, (i64, i64, i64, i64)>(
                    "SELECT tokens, micros, reserved_tokens, reserved_micros FROM purses
                     WHERE name = ?1",
                )
                .bind(purse.key())
                .fetch_optional(&mut *connection)
                .await?;
                looked.push(row.map(taken).unwrap_or_default());
            }
            Ok(looked)
        };
        self.database.run(operation).await
    }

    async fn purge(&self, now: Timestamp, most: usize) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "DELETE FROM purses WHERE name IN
                 (SELECT name FROM purses
                  WHERE remember_until <= ?1 AND reserved_tokens = 0 AND reserved_micros = 0
                  ORDER BY remember_until LIMIT ?2)",
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

fn taken((tokens, micros, reserved_tokens, reserved_micros): (i64, i64, i64, i64)) -> Taken {
    Taken {
        spent: Amount { tokens: told(tokens), micros: told(micros) },
        reserved: Amount { tokens: told(reserved_tokens), micros: told(reserved_micros) },
    }
}
