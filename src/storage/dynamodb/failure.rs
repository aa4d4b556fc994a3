//! What a failed SDK call means, and trying again when writers meet.
//!
//! The SDK retries throttled and broken calls by itself. It does not retry a transaction that lost against another
//! one; [`write`] does. Whatever the server says goes to the log, never to a client.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use aws_sdk_dynamodb::error::{BuildError, ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use tokio::time::sleep;

use crate::storage::StoreError;

/// Bounds of the pauses between attempts: nine of them take about a second, two at most.
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
        if codes.iter().any(|code| is_throttling(code)) {
            return Some(Failure::Contended("out of capacity"));
        }
        codes.contains(&"ValidationError").then(|| {
            Failure::Final(WriteError::Store(invalid("a transaction", cancelled.message())))
        })
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
            | "RequestThrottled"
            | "ThrottledException"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "LimitExceededException"
    )
}

/// Does a conditional write, again (with growing, random pauses) as long as other writers stand in its way.
pub(super) async fn write<T, E, F>(
    mut attempts: Attempts,
    mut attempt: impl FnMut() -> F,
) -> Result<T, WriteError>
where
    F: Future<Output = Result<T, SdkError<E>>> + Send,
    E: Classify + ProvideErrorMetadata + Error + Send + Sync + 'static,
{
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
#[derive(Debug)]
pub(super) struct Attempts {
    made: u32,
    at_most: u32,
}

impl Attempts {
    /// `at_most` counts the first one.
    pub(super) fn new(at_most: u32) -> Self {
        Self { made: 0, at_most }
    }

    /// Waits before the next one: anything up to a bound that doubles.
    ///
    /// # Errors
    /// [`StoreError::Throttled`] once there have been enough.
    pub(super) async fn again(&mut self, reason: &str) -> Result<(), StoreError> {
        self.made += 1;
        if self.made >= self.at_most {
            return Err(throttled(reason));
        }
        let bound = FIRST_WAIT.saturating_mul(1 << self.made.min(16)).min(LONGEST_WAIT);
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
    let Some(code) = error.code() else { return unanswered(&error) };
    let message = error.message().unwrap_or_default();
    match code {
        _ if is_throttling(code) => throttled(code),
        "ResourceNotFoundException" => {
            StoreError::Unavailable(format!("a table is missing, run `whatif migrate`: {message}"))
        }
        "AccessDeniedException"
        | "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "UnrecognizedClientException" => {
            StoreError::Unavailable(format!("access denied: {code}: {message}"))
        }
        "ValidationException" | "SerializationException" => invalid(code, error.message()),
        _ => StoreError::Unavailable(format!("{code}: {message}")),
    }
}

/// The server is well and the request is not: a table of another make, or a mistake in this code. Trying again is
/// pointless, and the circuit need not hear of it.
fn invalid(what: &str, message: Option<&str>) -> StoreError {
    StoreError::Corrupt(format!("refused as invalid: {what}: {}", message.unwrap_or_default()))
}

/// No error of the API's came back. Never the error's own text where there was an answer: it quotes the raw one, and
/// with it what people wrote.
fn unanswered<E: Error + Send + Sync + 'static>(error: &SdkError<E>) -> StoreError {
    StoreError::Unavailable(match error {
        SdkError::TimeoutError(_) => "no answer in time".to_owned(),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => {
            "no connection in time".to_owned()
        }
        SdkError::DispatchFailure(failure) => failure.as_connector_error().map_or_else(
            || "no connection".to_owned(),
            |cause| format!("no connection: {}", chain(cause)),
        ),
        SdkError::ServiceError(answer) => {
            format!("status {} without a readable error", answer.raw().status().as_u16())
        }
        SdkError::ResponseError(answer) => {
            format!("status {} with an unreadable body", answer.raw().status().as_u16())
        }
        SdkError::ConstructionFailure(_) => {
            let cause = error.source().map(chain).unwrap_or_default();
            format!("the request could not be made: {cause}")
        }
        _ => "the request failed".to_owned(),
    })
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    // Some have several lines of their own.
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A request without one of its required parts: a mistake in this code, kept from being a panic.
pub(super) fn incomplete(error: BuildError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
