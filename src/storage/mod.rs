//! Persistence: one trait per aggregate, its back ends in folders of their own.
//!
//! Called by service workers and sessions only, never by `http`. A store writes what it is given: ids and times
//! come from its caller. A lookup that finds nothing is `Ok(None)`.

pub mod budget;
pub mod bus;
pub mod cache;
pub mod dynamodb;
pub mod embedded;
pub mod idempotency;
pub mod limits;
pub mod log;
pub mod login;
pub mod postgres;
pub mod redis;
pub mod revocation;
pub mod scenario;
mod sql;
pub mod sqlite;
pub mod user;

use std::time::Duration;

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A condition of the write did not hold (someone else was first, or the thing is gone).
    #[error("conflict: {0}")]
    Conflict(&'static str),
    /// The thing is larger than the store takes.
    #[error("too large: {size_bytes} bytes, at most {max_bytes}")]
    TooLarge { size_bytes: usize, max_bytes: usize },
    /// A cursor that this store never gave out.
    #[error("invalid cursor")]
    InvalidCursor,
    /// The store refuses work for now (throttled); try later.
    #[error("throttled: {message}")]
    Throttled { message: String, retry_after: Option<Duration> },
    /// The store cannot be reached, or broke.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The store holds something that this version cannot read.
    #[error("corrupt: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether this speaks against the store itself (counts for its circuit) rather than against the request.
    pub fn is_dependency_failure(&self) -> bool {
        matches!(self, StoreError::Throttled { .. } | StoreError::Unavailable(_))
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Opaque; absent on the last page.
    pub next_cursor: Option<String>,
}
