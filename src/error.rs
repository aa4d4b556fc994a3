//! The one error that crosses a service boundary.
//!
//! Stores and providers have their own error enums; a service turns them into a [`ServiceError`] before it
//! answers. `http` is the only place that turns one into a status line, a frame or a header. Nothing internal
//! (SQL, paths, vendor bodies) ever goes into [`ServiceError::message`]: that text is read by a person.

use std::borrow::Cow;
use std::time::Duration;

/// The closed set of error codes of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    InvalidRequest,
    /// As `InvalidRequest`, but the body could not be read at all (status 400 instead of 422).
    MalformedRequest,
    Unauthenticated,
    InvalidToken,
    /// As `InvalidToken`, but it was good until it expired: a new one is worth asking for.
    ExpiredToken,
    InsufficientPermissions,
    NotFound,
    UserNotFound,
    ScenarioNotFound,
    SceneNotFound,
    TurnNotFound,
    MethodNotAllowed,
    Conflict,
    StaleScene,
    TurnInProgress,
    IdempotencyConflict,
    PayloadTooLarge,
    UnsupportedMediaType,
    ContentBlocked,
    RateLimited,
    BudgetExhausted,
    ProviderUnavailable,
    ServiceUnavailable,
    Timeout,
    Internal,
}

impl Code {
    /// The `error` field on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::InvalidRequest | Code::MalformedRequest => "invalid_request",
            Code::Unauthenticated => "unauthenticated",
            Code::InvalidToken | Code::ExpiredToken => "invalid_token",
            Code::InsufficientPermissions => "insufficient_permissions",
            Code::NotFound => "not_found",
            Code::UserNotFound => "user_not_found",
            Code::ScenarioNotFound => "scenario_not_found",
            Code::SceneNotFound => "scene_not_found",
            Code::TurnNotFound => "turn_not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::Conflict => "conflict",
            Code::StaleScene => "stale_scene",
            Code::TurnInProgress => "turn_in_progress",
            Code::IdempotencyConflict => "idempotency_conflict",
            Code::PayloadTooLarge => "payload_too_large",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::ContentBlocked => "content_blocked",
            Code::RateLimited => "rate_limited",
            Code::BudgetExhausted => "budget_exhausted",
            Code::ProviderUnavailable => "provider_unavailable",
            Code::ServiceUnavailable => "service_unavailable",
            Code::Timeout => "timeout",
            Code::Internal => "internal",
        }
    }

    /// The HTTP status that carries the code.
    pub const fn status(self) -> u16 {
        match self {
            Code::MalformedRequest => 400,
            Code::Unauthenticated | Code::InvalidToken | Code::ExpiredToken => 401,
            Code::BudgetExhausted => 402,
            Code::InsufficientPermissions => 403,
            Code::NotFound
            | Code::UserNotFound
            | Code::ScenarioNotFound
            | Code::SceneNotFound
            | Code::TurnNotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::Conflict
            | Code::StaleScene
            | Code::TurnInProgress
            | Code::IdempotencyConflict => 409,
            Code::PayloadTooLarge => 413,
            Code::UnsupportedMediaType => 415,
            Code::InvalidRequest | Code::ContentBlocked => 422,
            Code::RateLimited => 429,
            Code::Internal => 500,
            Code::ProviderUnavailable | Code::ServiceUnavailable => 503,
            Code::Timeout => 504,
        }
    }

    /// Whether sending the same thing again later can succeed without the caller changing anything.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Code::TurnInProgress
                | Code::RateLimited
                | Code::ProviderUnavailable
                | Code::ServiceUnavailable
                | Code::Timeout
                | Code::Internal
        )
    }
}

/// One invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

/// A typed refusal or failure, safe to show to a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct ServiceError {
    pub code: Code,
    pub message: Cow<'static, str>,
    pub details: Vec<FieldError>,
    /// When to come back; set with `rate_limited` and the 503 codes.
    pub retry_after: Option<Duration>,
}

impl ServiceError {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), retry_after: None }
    }

    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// `invalid_request` about one field.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        let detail = FieldError { field: field.into(), message: message.into() };
        let text = format!("{}: {}", detail.field, detail.message);
        Self { details: vec![detail], ..Self::new(Code::InvalidRequest, text) }
    }

    pub fn scenario_not_found() -> Self {
        Self::new(Code::ScenarioNotFound, "no such scenario")
    }

    pub fn scene_not_found() -> Self {
        Self::new(Code::SceneNotFound, "no such scene in this scenario")
    }

    /// `service_unavailable`: `what` is the name of a service or a dependency.
    pub fn unavailable(what: &str, retry_after: Duration) -> Self {
        Self::new(Code::ServiceUnavailable, format!("{what} is unavailable right now"))
            .retry_after(retry_after)
    }

    pub fn timeout(what: &str) -> Self {
        Self::new(Code::Timeout, format!("{what} did not answer in time"))
    }

    /// `internal`. The cause belongs in the log, not in here.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "something went wrong on our side")
    }
}
