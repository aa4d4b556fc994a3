//! What a failed SDK call means, and trying again when writers meet.
//!
//! The SDK retries throttled and broken calls by itself. It does not retry a transaction that lost against another
//! one; [`write`] does.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use tokio::time::sleep;

use crate::storage::StoreError;

/// Attempts at a write that meets other writers, the first included: about two seconds in the worst case.
const ATTEMPTS: u32 = 9;
const FIRST_WAIT: Duration = Duration::from_millis(16);
const LONGEST_WAIT: Duration = Duration::from_millis(512);

/// Why a conditional write was not done.
#[derive(Debug)]
pub(super) enum WriteError {
    /// Some conditions did not hold: one entry per action of the transaction, true for those that failed.
    Condition(Vec<bool>),
    Store(StoreError),
}

impl WriteError {
    /// For a write whose conditions are about one thing only.
    pub(super) fn or_condition<T>(self, otherwise: T) -> Result<T, StoreError> {
        match self {
            WriteError::Condition(_) => Ok(otherwise),
            WriteError::Store(e) => Err(e),
        }
    }
}

/// The outcome of one attempt.
pub(super) enum Failure {
    Final(WriteError),
    /// Another writer was at one of the items, or the table is out of capacity for now.
    Contended(&'static str),
}

/// Errors of the writes that can meet another writer.
pub(super) trait Classify {
    fn cancellation(&self) -> Option<Failure>;
}

impl Classify for UpdateItemError {
    fn cancellation(&self) -> Option<Failure> {
        None
    }
}

impl Classify for TransactWriteItemsError {
    fn cancellation(&self) -> Option<Failure> {
        let TransactWriteItemsError::TransactionCanceledException(cancelled) = self else {
            return None;
        };
        let codes: Vec<&str> = cancelled
            .cancellation_reasons()
            .iter()
            .map(|reason| reason.code().unwrap_or("None"))
            .collect();
        // A condition that failed has failed, whatever else stood in the way.
        if codes.contains(&"ConditionalCheckFailed") {
            let failed = codes.iter().map(|code| *code == "ConditionalCheckFailed").collect();
            return Some(Failure::Final(WriteError::Condition(failed)));
        }
        if codes.contains(&"TransactionConflict") {
            return Some(Failure::Contended("too many writers at once"));
        }
        codes
            .iter()
            .any(|code| is_throttling(code))
            .then_some(Failure::Contended("out of capacity"))
    }
}

fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException"
            | "ThrottlingError"
            | "Throttling"
            | "ProvisionedThroughputExceededException"
            | "ProvisionedThroughputExceeded"
            | "RequestLimitExceeded"
            | "LimitExceededException"
    )
}

/// Does a conditional write, again (with growing, random pauses) as long as other writers stand in its way.
pub(super) async fn write<T, E, F>(mut attempt: impl FnMut() -> F) -> Result<T, WriteError>
where
    F: Future<Output = Result<T, SdkError<E>>> + Send,
    E: Classify + ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let mut attempts = Attempts::default();
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(e) => e,
        };
        let reason = match classify(error) {
            Failure::Final(e) => return Err(e),
            Failure::Contended(reason) => reason,
        };
        attempts.again(reason).await.map_err(WriteError::Store)?;
    }
}

fn classify<E>(error: SdkError<E>) -> Failure
where
    E: Classify + ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if let Some(failure) = error.as_service_error().and_then(Classify::cancellation) {
        return failure;
    }
    match error.code() {
        Some("ConditionalCheckFailedException") => {
            Failure::Final(WriteError::Condition(vec![true]))
        }
        Some("TransactionConflictException" | "TransactionInProgressException") => {
            Failure::Contended("too many writers at once")
        }
        _ => Failure::Final(WriteError::Store(store_error(error))),
    }
}

/// Tries at something that others may stand in the way of.
#[derive(Debug, Default)]
pub(super) struct Attempts(u32);

impl Attempts {
    /// Waits before the next one: anything up to a bound that doubles.
    ///
    /// # Errors
    /// [`StoreError::Throttled`] once there have been enough.
    pub(super) async fn again(&mut self, reason: &str) -> Result<(), StoreError> {
        self.0 += 1;
        if self.0 == ATTEMPTS {
            return Err(throttled(reason));
        }
        let bound = FIRST_WAIT.saturating_mul(1 << self.0).min(LONGEST_WAIT);
        sleep(bound.mul_f64(rand::random())).await;
        Ok(())
    }
}

fn throttled(reason: &str) -> StoreError {
    StoreError::Throttled { message: reason.to_owned(), retry_after: Some(LONGEST_WAIT) }
}

/// A call that failed for good.
pub(super) fn store_error<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error.code() {
        Some(code) if is_throttling(code) => throttled(code),
        Some(code) => {
            StoreError::Unavailable(format!("{code}: {}", error.message().unwrap_or_default()))
        }
        // Never the error's own text: it quotes the raw answer, and with it what people wrote.
        None => StoreError::Unavailable(match &error {
            SdkError::TimeoutError(_) => "no answer in time".to_owned(),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                "no connection in time".to_owned()
            }
            SdkError::DispatchFailure(failure) => failure.as_connector_error().map_or_else(
                || "no connection".to_owned(),
                |cause| format!("no connection: {}", DisplayErrorContext(cause)),
            ),
            SdkError::ServiceError(answer) => {
                format!("status {} without a readable error", answer.raw().status().as_u16())
            }
            SdkError::ResponseError(answer) => {
                format!("status {} with an unreadable body", answer.raw().status().as_u16())
            }
            _ => "the request could not be made".to_owned(),
        }),
    }
}

/// A request without one of its required parts: a mistake in this code, kept from being a panic.
pub(super) fn incomplete(error: BuildError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
