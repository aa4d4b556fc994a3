//! What model calls cost, in PostgreSQL.
//!
//! Purses are always locked in the order of their names, so that calls that share some never wait for each other in a
//! circle.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{query, query_as};
use uuid::Uuid;

use super::pool::Pool;
use super::row::{Time, limit};
use super::session::Repeat;
use crate::domain::budget::{Amount, Purse};
use crate::domain::ids::TurnId;
use crate::storage::StoreError;
use crate::storage::budget::{BudgetStore, NewReservation, OpenReservation, Reserved, Taken};
use crate::storage::sql::{stored, told};

#[derive(Debug, Clone)]
pub struct PostgresBudgetStore {
    primary: Pool,
}

impl PostgresBudgetStore {
    pub(super) fn new(primary: Pool) -> Self {
        Self { primary }
    }

    async fn try_reserve(&self, reservation: &NewReservation) -> Result<Reserved, sqlx::Error> {
        let purses = &reservation.purses;
        let names: Vec<String> = purses.iter().map(|(purse, _)| purse.key()).collect();
        let tokens: Vec<_> = purses.iter().map(|(_, cap)| cap.tokens.map(stored)).collect();
        let micros: Vec<_> = purses.iter().map(|(_, cap)| cap.micros.map(stored)).collect();
        let kept = |purse: &Purse| stored(purse.kept_for().as_secs());
        let kept: Vec<_> = purses.iter().map(|(purse, _)| kept(purse)).collect();
        let mut session = self.primary.session().await?;
        session.begin().await?;
        let note = query(
            "INSERT INTO reservations (id, turn, purses, tokens, micros, due)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
        )
        .bind(reservation.id)
        .bind(reservation.turn.0)
        .bind(names.join("\n"))
        .bind(stored(reservation.amount.tokens))
        .bind(stored(reservation.amount.micros))
        .bind(Time(reservation.due));
        if session.execute(note).await? == 0 {
            session.roll_back().await?;
            return Ok(Reserved::Granted);
        }
        let take = query_as::<_, (String,)>(
            "INSERT INTO purses (name, tokens, micros, reserved_tokens, reserved_micros,
                 remember_until)
             SELECT name, 0, 0, $4, $5, $6 + make_interval(secs => kept_seconds)
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $7::bigint[])
                 AS asked (name, most_tokens, most_micros, kept_seconds)
             WHERE (most_tokens IS NULL OR $4 <= most_tokens)
               AND (most_micros IS NULL OR $5 <= most_micros)
             ORDER BY name
             ON CONFLICT (name) DO UPDATE SET
                 reserved_tokens = purses.reserved_tokens + excluded.reserved_tokens,
                 reserved_micros = purses.reserved_micros + excluded.reserved_micros,
                 remember_until = greatest(purses.remember_until, excluded.remember_until)
             WHERE (SELECT (most_tokens IS NULL
                            OR purses.tokens + purses.reserved_tokens + $4 <= most_tokens)
                       AND (most_micros IS NULL
                            OR purses.micros + purses.reserved_micros + $5 <= most_micros)
                    FROM unnest($1::text[], $2::bigint[], $3::bigint[])
                        AS asked (name, most_tokens, most_micros)
                    WHERE asked.name = purses.name)
             RETURNING name",
        )
        .bind(&names)
        .bind(&tokens)
        .bind(&micros)
        .bind(stored(reservation.amount.tokens))
        .bind(stored(reservation.amount.micros))
        .bind(Time(reservation.now))
        .bind(&kept);
        let taken = session.list(take).await?;
        let refused = names.iter().position(|name| !taken.iter().any(|(taken,)| taken == name));
        match refused {
            Some(at) => {
                session.roll_back().await?;
                Ok(Reserved::Exhausted(purses[at].0))
            }
            None => {
                session.commit().await?;
                Ok(Reserved::Granted)
            }
        }
    }

    async fn try_settle(&self, id: Uuid, spent: Amount) -> Result<bool, sqlx::Error> {
        let mut session = self.primary.session().await?;
        session.begin().await?;
        let settle = query_as::<_, (String, i64, i64)>(
            "DELETE FROM reservations WHERE id = $1 RETURNING purses, tokens, micros",
        );
        let Some((purses, tokens, micros)) = session.find(settle.bind(id)).await? else {
            session.roll_back().await?;
            return Ok(false);
        };
        let mut names: Vec<&str> = purses.lines().collect();
        names.sort_unstable();
        let lock = query("SELECT 1 FROM purses WHERE name = ANY($1) ORDER BY name FOR UPDATE");
        session.execute(lock.bind(&names)).await?;
        let put = query(
            "UPDATE purses SET
                 reserved_tokens = greatest(reserved_tokens - $2, 0),
                 reserved_micros = greatest(reserved_micros - $3, 0),
                 tokens = tokens + $4, micros = micros + $5
             WHERE name = ANY($1)",
        )
        .bind(&names)
        .bind(tokens)
        .bind(micros)
        .bind(stored(spent.tokens))
        .bind(stored(spent.micros));
        session.execute(put).await?;
        session.commit().await?;
        Ok(true)
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    tokens: i64,
    micros: i64,
}

impl From<Row> for OpenReservation {
    fn from(row: Row) -> Self {
        let amount = Amount { tokens: told(row.tokens), micros: told(row.micros) };
        Self { id: row.id, amount }
    }
}

#[derive(sqlx::FromRow)]
struct PurseRow {
    name: String,
    tokens: i64,
    micros: i64,
    reserved_tokens: i64,
    reserved_micros: i64,
}

#[async_trait]
impl BudgetStore for PostgresBudgetStore {
    async fn reserve(&self, reservation: &NewReservation) -> Result<Reserved, StoreError> {
        self.primary.run(Repeat::Safe, || self.try_reserve(reservation)).await
    }

    async fn settle(&self, id: Uuid, spent: Amount) -> Result<bool, StoreError> {
        // Repeated it says that it was settled before, which it was.
        self.primary.run(Repeat::Safe, || self.try_settle(id, spent)).await
    }

    async fn list_open(&self, turn: TurnId) -> Result<Vec<OpenReservation>, StoreError> {
        let list = || {
            query_as::<_, Row>("SELECT id, tokens, micros FROM reservations WHERE turn = $1")
                .bind(turn.0)
        };
        let rows = self.primary.list(list).await?;
        Ok(rows.into_iter().map(OpenReservation::from).collect())
    }

    async fn list_due(
        &self,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<OpenReservation>, StoreError> {
        let list = || {
            query_as::<_, Row>(
                "SELECT id, tokens, micros FROM reservations
                 WHERE due <= $1 ORDER BY due LIMIT $2",
            )
            .bind(Time(now))
            .bind(limit(most))
        };
        let rows = self.primary.list(list).await?;
        Ok(rows.into_iter().map(OpenReservation::from).collect())
    }

    async fn look(&self, purses: &[Purse]) -> Result<Vec<Taken>, StoreError> {
        let names: Vec<String> = purses.iter().map(Purse::key).collect();
        let list = || {
            query_as::<_, PurseRow>(
                "SELECT name, tokens, micros, reserved_tokens, reserved_micros FROM purses
                 WHERE name = ANY($1)",
            )
            .bind(&names)
        };
        let rows = self.primary.list(list).await?;
        let taken = |name: &String| {
            let row = rows.iter().find(|row| row.name == *name)?;
            Some(Taken {
                spent: Amount { tokens: told(row.tokens), micros: told(row.micros) },
                reserved: Amount {
                    tokens: told(row.reserved_tokens),
                    micros: told(row.reserved_micros),
                },
            })
        };
        Ok(names.iter().map(|name| taken(name).unwrap_or_default()).collect())
    }

    async fn purge(&self, now: Timestamp, most: usize) -> Result<u64, StoreError> {
        // Replicas purge at the same time: each takes what no other has taken.
        let statement = || {
            query(
                "DELETE FROM purses WHERE name IN
                     (SELECT name FROM purses
                      WHERE remember_until <= $1 AND reserved_tokens = 0 AND reserved_micros = 0
                      ORDER BY remember_until LIMIT $2 FOR UPDATE SKIP LOCKED)",
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
