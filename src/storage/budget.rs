//! What model calls have cost, and what running ones may still cost.
//!
//! A call is **reserved** before it is made, out of several purses at once, and **settled** after it with what it came to.
//! A purse never gives more than its cap, however many reserve at the same moment and whoever dies in between: what a
//! dead process had reserved stays taken until someone settles it.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::StoreError;
use crate::domain::budget::{Amount, Cap, Purse};
use crate::domain::ids::TurnId;

/// A call about to be made: everything in it comes from the caller.
#[derive(Debug, Clone)]
pub struct NewReservation {
    pub id: Uuid,
    pub turn: TurnId,
    /// The most that the call may come to.
    pub amount: Amount,
    /// The purses it is taken from, each with its cap. Each is remembered for its own time from `now` on.
    pub purses: Vec<(Purse, Cap)>,
    pub now: Timestamp,
    /// From then on whoever looks may settle it.
    pub due: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    Granted,
    /// This purse does not give so much; nothing was taken from any.
    Exhausted(Purse),
}

/// A reservation that was not settled yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenReservation {
    pub id: Uuid,
    pub amount: Amount,
}

/// What a purse has given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Taken {
    pub spent: Amount,
    /// For calls that still run.
    pub reserved: Amount,
}

impl Taken {
    pub fn all(self) -> Amount {
        self.spent.plus(self.reserved)
    }
}

/// # Errors
/// Every method: [`StoreError::Unavailable`] if the store cannot be reached, is locked for too long or broke,
/// [`StoreError::Corrupt`] if a record cannot be read.
#[async_trait]
pub trait BudgetStore: Send + Sync + 'static {
    /// Takes the amount from every purse, or from none. Repeated with the same id it takes nothing more.
    async fn reserve(&self, reservation: &NewReservation) -> Result<Reserved, StoreError>;

    /// Puts what the call came to in the place of what was reserved for it. `false`: it was settled before, or nobody
    /// has reserved it.
    async fn settle(&self, id: Uuid, spent: Amount) -> Result<bool, StoreError>;

    /// What was reserved for a turn and not settled, in no order.
    async fn list_open(&self, turn: TurnId) -> Result<Vec<OpenReservation>, StoreError>;

    /// Up to `limit` reservations that should have been settled by `now`.
    async fn list_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<OpenReservation>, StoreError>;

    /// What each of the purses has given, in their order.
    async fn look(&self, purses: &[Purse]) -> Result<Vec<Taken>, StoreError>;

    /// Forgets up to `limit` purses that need not be remembered any more and from which nothing is reserved; returns how
    /// many.
    async fn purge(&self, now: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Cheap round trip that tells whether the store answers.
    async fn probe(&self) -> Result<(), StoreError>;
}
