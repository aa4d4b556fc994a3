//! Answers already given to creating requests, by idempotency key.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::StoreError;

/// What identifies a request that may be repeated: whose it is and the key its sender chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerKey {
    /// A user's id, or the route of a request without a user.
    pub scope: String,
    pub key: String,
}

/// What a request was, so that the same key with another body is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// A claim to be made: everything in it comes from the caller.
#[derive(Debug, Clone)]
pub struct NewClaim {
    pub key: AnswerKey,
    pub fingerprint: Fingerprint,
    /// The id that the created thing is to have, unless an earlier claim reserved one.
    pub reserved: Uuid,
    pub now: Timestamp,
    /// From then on another request may take the claim over.
    pub until: Timestamp,
    /// From then on everything about the key is forgotten.
    pub expires_at: Timestamp,
}

/// What was found under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// The caller holds the claim and runs the request. `attempt` names this claim among those made of the key.
    New { reserved: Uuid, attempt: u32 },
    /// Answered before. The body is as it was given to [`AnswerStore::finish`].
    Replay { status: u16, body: Vec<u8> },
    /// The key was used for another request.
    Mismatch,
    /// The first request still runs, or its process died a moment ago.
    InProgress,
}

/// Claims and answers by key.
///
/// Every method: [`StoreError::Unavailable`] if the store cannot be reached, is locked for too long or broke,
/// [`StoreError::Corrupt`] if a record cannot be read.
#[async_trait]
pub trait AnswerStore: Send + Sync + 'static {
    /// Claims the key, or tells what is known about it; of two that claim at once, one wins.
    ///
    /// A claim that has run out or was abandoned is taken over, with the id it reserved if the request is the same
    /// one. Only an abandoned claim may be taken over by another request; that one reserves its own id.
    async fn begin(&self, claim: &NewClaim) -> Result<Begun, StoreError>;

    /// Keeps the answer until the claim's `expires_at`. The first answer stays: a later one is ignored.
    async fn finish(&self, key: &AnswerKey, status: u16, body: &[u8]) -> Result<(), StoreError>;

    /// Gives the claim up, unless someone took it over or an answer is kept.
    async fn abandon(&self, key: &AnswerKey, attempt: u32) -> Result<(), StoreError>;

    /// Forgets up to `limit` keys whose time is over; returns how many.
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Cheap round trip that tells whether the store answers.
    async fn probe(&self) -> Result<(), StoreError>;
}
