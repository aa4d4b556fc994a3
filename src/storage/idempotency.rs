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
    /// What the same request's fingerprint was under keys no longer in use.
    pub older_fingerprints: Vec<Fingerprint>,
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
/// # Errors
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

/// What a store holds under a key; for back ends that read, judge and write in one transaction.
#[derive(Debug, Clone)]
pub struct Held {
    pub fingerprint: Fingerprint,
    pub reserved: Uuid,
    pub attempt: u32,
    pub state: HeldState,
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone)]
pub enum HeldState {
    Claimed { until: Timestamp },
    Abandoned,
    Answered { status: u16, body: Vec<u8> },
}

/// What a claim comes to.
#[derive(Debug)]
pub enum Verdict {
    /// Write the claim down with these.
    Claim { reserved: Uuid, attempt: u32 },
    /// Write nothing.
    Told(Begun),
}

impl NewClaim {
    /// The rules of [`AnswerStore::begin`], without a store.
    pub fn judge(&self, held: Option<Held>) -> Verdict {
        let Some(held) = held else {
            return Verdict::Claim { reserved: self.reserved, attempt: 1 };
        };
        let attempt = held.attempt.wrapping_add(1);
        if held.expires_at <= self.now {
            return Verdict::Claim { reserved: self.reserved, attempt };
        }
        let same = held.fingerprint == self.fingerprint
            || self.older_fingerprints.contains(&held.fingerprint);
        match held.state {
            HeldState::Abandoned if !same => Verdict::Claim { reserved: self.reserved, attempt },
            _ if !same => Verdict::Told(Begun::Mismatch),
            HeldState::Answered { status, body } => Verdict::Told(Begun::Replay { status, body }),
            HeldState::Claimed { until } if until > self.now => Verdict::Told(Begun::InProgress),
            // The id was perhaps used already: whoever creates again must create the same thing.
            HeldState::Claimed { .. } | HeldState::Abandoned => {
                Verdict::Claim { reserved: held.reserved, attempt }
            }
        }
    }
}
