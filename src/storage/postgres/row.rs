//! Times as PostgreSQL has them, and what the rows of both stores share.

use jiff::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef, Postgres};
use sqlx::{Decode, Encode, Type};

use super::StoreError;

/// 2000-01-01T00:00:00Z, where `timestamptz` counts its microseconds from.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
const TIMESTAMPTZ: Oid = Oid(1184);

/// A `timestamptz`. Keeps microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(pub Timestamp);

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = self.0.as_microsecond() - POSTGRES_EPOCH;
        buffer.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl Decode<'_, Postgres> for Time {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() != PgValueFormat::Binary {
            return Err("a time that is not in the binary format".into());
        }
        let micros = i64::from_be_bytes(value.as_bytes()?.try_into()?);
        let micros = micros.checked_add(POSTGRES_EPOCH).ok_or("an infinite time")?;
        Ok(Time(Timestamp::from_microsecond(micros)?))
    }
}

pub(super) fn digest(bytes: &[u8], column: &str) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("{column} is not a SHA-256")))
}

pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
