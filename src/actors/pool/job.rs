//! How a job is answered, and what its failure means for the worker.

use std::fmt;

use tokio::sync::oneshot;
use tracing::Span;

use crate::error::{Code, ServiceError};
use crate::storage::StoreError;

/// The one answer to a job.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<Result<T, ServiceError>>);

/// Why a job did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The caller's fault, or nobody's: answered, and the worker goes on.
    Refused(ServiceError),
    /// The dependency's fault: answered, and the worker exits.
    Dependency { shown: ServiceError, trip: Trip },
}

/// A worker's exit that speaks against its dependency. Its supervisor counts it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("dependency failed ({kind}): {cause}")]
pub struct Trip {
    pub kind: TripKind,
    /// For the log only.
    pub cause: String,
    /// The job's, for the same log.
    pub(super) span: Box<Span>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TripKind {
    Unavailable,
    Throttled,
    Deadline,
}

impl fmt::Display for TripKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TripKind::Unavailable => "unavailable",
            TripKind::Throttled => "throttled",
            TripKind::Deadline => "deadline",
        })
    }
}

impl Trip {
    pub fn new(kind: TripKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), span: Box::new(Span::current()) }
    }
}

impl<T> Reply<T> {
    pub(super) fn channel() -> (Self, oneshot::Receiver<Result<T, ServiceError>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers, and tells the worker whether to live on. A caller that has gone away is no failure.
    ///
    /// # Errors
    /// The [`Trip`] of a dependency's failure, to be returned from [`super::Work::run`].
    pub fn answer(self, outcome: Result<T, impl Into<Failure>>) -> Result<(), Trip> {
        let (answer, verdict) = match outcome.map_err(Into::into) {
            Ok(value) => (Ok(value), Ok(())),
            Err(Failure::Refused(error)) => (Err(error), Ok(())),
            Err(Failure::Dependency { shown, trip }) => (Err(shown), Err(trip)),
        };
        let _ = self.0.send(answer);
        verdict
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Failure::Refused(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let unavailable = |retry_after: Option<std::time::Duration>| {
            ServiceError::unavailable(
                "storage",
                retry_after.unwrap_or(std::time::Duration::from_secs(1)),
            )
        };
        let cause = error.to_string();
        match error {
            StoreError::Conflict(what) => ServiceError::new(Code::Conflict, what).into(),
            StoreError::TooLarge { .. } => ServiceError::new(Code::PayloadTooLarge, cause).into(),
            StoreError::InvalidCursor => {
                ServiceError::invalid_field("cursor", "is not one that a list gave out").into()
            }
            StoreError::Corrupt(cause) => {
                tracing::error!(%cause, "storage holds something unreadable");
                ServiceError::internal().into()
            }
            StoreError::Throttled { retry_after, .. } => Failure::Dependency {
                shown: unavailable(retry_after),
                trip: Trip::new(TripKind::Throttled, cause),
            },
            StoreError::Unavailable(_) => Failure::Dependency {
                shown: unavailable(None),
                trip: Trip::new(TripKind::Unavailable, cause),
            },
        }
    }
}

/// A probe's failure is always the dependency's.
impl From<StoreError> for Trip {
    fn from(error: StoreError) -> Self {
        Trip::new(TripKind::Unavailable, error.to_string())
    }
}
