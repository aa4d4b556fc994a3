//! Revocations in memory, for a replica that is alone. They end with the process.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::storage::StoreError;
use crate::storage::revocation::{News, Position, Revocation, RevocationStore};

#[derive(Default)]
pub struct LocalRevocations(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    last: u64,
    /// In the order of their numbers.
    entries: VecDeque<Entry>,
}

struct Entry {
    number: u64,
    revocation: Revocation,
    until: Instant,
}

#[async_trait]
impl RevocationStore for LocalRevocations {
    async fn publish(&self, revocation: Revocation, keep: Duration) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entries.retain(|old| old.until > now && !overrides(revocation, old.revocation));
        kept.last += 1;
        let entry = Entry { number: kept.last, revocation, until: now + keep };
        kept.entries.push_back(entry);
        Ok(())
    }

    async fn since(&self, position: Position) -> Result<News, StoreError> {
        let now = Instant::now();
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            kept.entries.iter().filter(|entry| entry.number > position.0 && entry.until > now);
        let revocations = new.map(|entry| entry.revocation).collect();
        Ok(News { revocations, position: Position(kept.last.max(position.0)) })
    }
}

/// Whether nothing is left to say of `old` after `new`.
fn overrides(new: Revocation, old: Revocation) -> bool {
    use Revocation::{Ended, Restored, Suspended};
    match (new, old) {
        (Ended(new), Ended(old)) => new == old,
        (Suspended(new) | Restored(new), Suspended(old) | Restored(old)) => new == old,
        _ => false,
    }
}
