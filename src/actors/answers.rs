//! Idempotency of creating requests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::status::ServiceStatus;
use super::supervisor::ChildSpec;
use super::user::ServerSecret;
use crate::clock::Clock;
use crate::config;
use crate::error::ServiceError;
use crate::storage::idempotency::{AnswerKey, AnswerStore};

/// What the pool is built from.
pub struct Parts {
    pub store: Arc<dyn AnswerStore>,
    pub secret: ServerSecret,
    pub clock: Clock,
    /// Longest that a request may run: a claim older than that was left by a crash.
    pub request_timeout: Duration,
}

/// The request as its fingerprint sees it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// A user's id, or the route of a request without a user.
    pub scope: &'a str,
    /// The `Idempotency-Key`: 1-255 visible ASCII characters.
    pub key: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub body: &'a [u8],
}

/// A claim held by the caller, to be given to [`AnswersHandle::finish`] or [`AnswersHandle::abandon`].
#[derive(Debug, Clone)]
pub struct Claim {
    /// The id that the created thing must have: every attempt of the same request gets the same.
    pub reserved: Uuid,
    #[expect(dead_code, reason = "in the making")]
    key: AnswerKey,
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Begun {
    /// Run it, then finish or abandon the claim.
    New(Claim),
    /// Send this again.
    Replay { status: u16, body: Bytes },
}

/// The way in; cheap to clone.
#[derive(Clone)]
pub struct AnswersHandle {}

/// The handle, the place in the tree and the state of it.
pub fn build(
    _circuits: &config::Circuits,
    _parts: Parts,
) -> (AnswersHandle, ChildSpec, Arc<ServiceStatus>) {
    todo!()
}

impl AnswersHandle {
    /// # Errors
    /// `invalid_request` for a bad key, `idempotency_conflict` if the key was used for another request, `conflict`
    /// with a time to come back while the first request still runs.
    pub async fn begin(&self, _request: Request<'_>) -> Result<Begun, ServiceError> {
        todo!()
    }

    /// Keeps the answer for 24 hours.
    pub async fn finish(
        &self,
        _claim: Claim,
        _status: u16,
        _body: Bytes,
    ) -> Result<(), ServiceError> {
        todo!()
    }

    /// Gives the claim up, so that the same request may run again at once (with the same id).
    pub async fn abandon(&self, _claim: Claim) -> Result<(), ServiceError> {
        todo!()
    }

    /// Forgets what is older than 24 hours; returns how many. For a timer.
    pub async fn purge(&self) -> Result<u64, ServiceError> {
        todo!()
    }
}
