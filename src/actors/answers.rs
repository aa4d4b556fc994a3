//! Answers to creating requests, kept for a day so that a request sent twice creates one thing.
//!
//! Called by the gateway around a creating request: begin, run, then finish with the answer or abandon. Bodies are
//! sealed before they reach the store, since they may hold tokens; fingerprints are keyed, since a request may hold a
//! password. One pool does the work: `gateway.answers`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::circuit::Policy;
use super::pool::{self, Failure, PoolHandle, PoolSpec, Reply, Trip, Work};
use super::seal::SealingKey;
use super::status::ServiceStatus;
use super::supervisor::{ChildSpec, Intensity};
use super::user::ServerSecret;
use crate::clock::Clock;
use crate::config;
use crate::domain::ids::UserId;
use crate::error::{Code, ServiceError};
use crate::storage::idempotency::{AnswerKey, AnswerStore, Begun as Found, Fingerprint, NewClaim};

const WORKERS: usize = 4;
const CAPACITY: usize = 512;
/// Above the store's own limit for an operation.
const DEADLINE: Duration = Duration::from_secs(6);
const PANICS: Intensity = Intensity::new(5, Duration::from_secs(10));

/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Added to the time a request may take before its claim may be taken over.
const SLACK: Duration = Duration::from_secs(2);
const MAX_KEY_CHARS: usize = 255;
const PURGE_BATCH: usize = 500;

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
    key: AnswerKey,
    attempt: u32,
}

/// What to do with a request.
#[derive(Clone)]
pub enum Begun {
    /// Run it, then finish or abandon the claim.
    New(Claim),
    /// Send this again.
    Replay { status: u16, body: Bytes },
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Begun::New(claim) => f.debug_tuple("New").field(claim).finish(),
            Begun::Replay { status, .. } => {
                f.debug_struct("Replay").field("status", status).finish_non_exhaustive()
            }
        }
    }
}

enum Job {
    Begin(Box<NewClaim>, Reply<Found>),
    Finish(AnswerKey, u16, Vec<u8>, Reply<()>),
    Abandon(AnswerKey, u32, Reply<()>),
    Purge(Timestamp, Reply<u64>),
}

struct Answers(Arc<dyn AnswerStore>);

impl Work for Answers {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        let store = &self.0;
        match job {
            Job::Begin(claim, reply) => reply.answer(store.begin(&claim).await),
            Job::Finish(key, status, body, reply) => {
                reply.answer(store.finish(&key, status, &body).await)
            }
            Job::Abandon(key, attempt, reply) => reply.answer(store.abandon(&key, attempt).await),
            Job::Purge(now, reply) => reply.answer(self.purge(now).await),
        }
    }

    async fn probe(&self) -> Result<(), Trip> {
        Ok(self.0.probe().await?)
    }
}

impl Answers {
    async fn purge(&self, now: Timestamp) -> Result<u64, Failure> {
        Ok(self.0.purge(now, PURGE_BATCH).await?)
    }
}

/// The current secret's keys, then the older ones'.
struct Keys {
    fingerprint: Vec<hmac::Key>,
    sealing: Vec<SealingKey>,
}

/// The way in; cheap to clone.
#[derive(Clone)]
pub struct AnswersHandle {
    pool: PoolHandle<Answers>,
    keys: Arc<Keys>,
    clock: Clock,
    claim_ttl: Duration,
}

/// The handle, the place in the tree and the state of it.
pub fn build(
    circuits: &config::Circuits,
    parts: Parts,
) -> (AnswersHandle, ChildSpec, Arc<ServiceStatus>) {
    let spec = PoolSpec {
        name: "gateway.answers",
        workers: WORKERS,
        capacity: CAPACITY,
        deadline: DEADLINE,
        panics: PANICS,
        circuit: Policy::from(circuits),
    };
    let pool = PoolHandle::new(spec, Answers(parts.store));
    let status = ServiceStatus::new("answers", vec![pool.view()]);
    let spec =
        ChildSpec::supervisor("answers", vec![pool::child(&pool)]).status(Arc::clone(&status));
    let fingerprint = parts.secret.derive_all("request fingerprints");
    let keys = Keys {
        fingerprint: fingerprint.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect(),
        sealing: parts.secret.derive_all("kept answers").into_iter().map(SealingKey::new).collect(),
    };
    let claim_ttl = parts.request_timeout + SLACK;
    let handle = AnswersHandle { pool, keys: Arc::new(keys), clock: parts.clock, claim_ttl };
    (handle, spec, status)
}

impl AnswersHandle {
    /// Claims the key for the request, or finds the answer it got before.
    ///
    /// # Errors
    /// `invalid_request` for a bad key; `idempotency_conflict` if the key was used for another request; `conflict`
    /// with a time to come back while the first request still runs; `service_unavailable`, `timeout`.
    pub async fn begin(&self, request: Request<'_>) -> Result<Begun, ServiceError> {
        check_key(request.key)?;
        let now = self.clock.now();
        let key = AnswerKey { scope: request.scope.into(), key: request.key.into() };
        let older = &self.keys.fingerprint[1..];
        let claim = NewClaim {
            key: key.clone(),
            fingerprint: fingerprint(&self.keys.fingerprint[0], &request),
            older_fingerprints: older.iter().map(|key| fingerprint(key, &request)).collect(),
            reserved: UserId::new(now).0,
            now,
            until: now + self.claim_ttl,
            expires_at: now + KEPT,
        };
        match self.pool.call(|reply| Job::Begin(Box::new(claim), reply)).await? {
            Found::New { reserved, attempt } => Ok(Begun::New(Claim { reserved, key, attempt })),
            Found::Replay { status, body } => {
                let body = self.open(&key, status, &body)?;
                Ok(Begun::Replay { status, body: body.into() })
            }
            Found::Mismatch => Err(ServiceError::new(
                Code::IdempotencyConflict,
                "this Idempotency-Key was used for another request",
            )),
            Found::InProgress => Err(ServiceError::new(
                Code::Conflict,
                "the first request with this Idempotency-Key is still running",
            )
            .retry_after(Duration::from_secs(1))),
        }
    }

    /// Keeps the answer for 24 hours. The first answer given to a key stays.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`: the answer is perhaps not kept, and a repeat runs the request again with
    /// the same id.
    pub async fn finish(&self, claim: Claim, status: u16, body: Bytes) -> Result<(), ServiceError> {
        let sealed = self.keys.sealing[0].seal(&context(&claim.key, status), &body);
        self.pool.call(|reply| Job::Finish(claim.key, status, sealed, reply)).await
    }

    /// Gives the claim up after a refusal or a failure: the same request may run again at once (with the same id),
    /// and so may a corrected one (with another).
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`: the claim then runs out by itself.
    pub async fn abandon(&self, claim: Claim) -> Result<(), ServiceError> {
        self.pool.call(|reply| Job::Abandon(claim.key, claim.attempt, reply)).await
    }

    /// Forgets up to 500 answers that are older than 24 hours; returns how many. For a timer.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn purge(&self) -> Result<u64, ServiceError> {
        let now = self.clock.now();
        self.pool.call(|reply| Job::Purge(now, reply)).await
    }

    fn open(&self, key: &AnswerKey, status: u16, sealed: &[u8]) -> Result<Vec<u8>, ServiceError> {
        let context = context(key, status);
        self.keys.sealing.iter().find_map(|sealing| sealing.open(&context, sealed)).ok_or_else(
            || {
                // The secret was changed: the request must not run again, and its answer cannot be shown.
                tracing::warn!("a kept answer cannot be opened with the secrets at hand");
                ServiceError::new(
                    Code::Conflict,
                    "this request was answered before, but its answer is no longer readable",
                )
            },
        )
    }
}

fn fingerprint(key: &hmac::Key, request: &Request<'_>) -> Fingerprint {
    let mut context = hmac::Context::with_key(key);
    for part in [request.method.as_bytes(), request.path.as_bytes(), request.body] {
        // Lengths, so that nothing can move from one part to the next.
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let tag = context.sign();
    Fingerprint(tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes"))
}

/// What a sealed body belongs to, so that it cannot be moved to another key.
fn context(key: &AnswerKey, status: u16) -> Vec<u8> {
    format!("{}\n{}\n{status}", key.scope, key.key).into_bytes()
}

/// # Errors
/// `invalid_request` unless it is 1-255 visible ASCII characters.
pub fn check_key(key: &str) -> Result<(), ServiceError> {
    if (1..=MAX_KEY_CHARS).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(ServiceError::invalid_field("Idempotency-Key", "must be 1-255 visible ASCII characters"))
}

#[cfg(test)]
mod tests;
