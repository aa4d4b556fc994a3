//! News of logins that ended and users that were suspended, for replicas that still honour their access tokens.
//!
//! Not the record of either: that is the user store's. What is published here matters for as long as an access token
//! lives, so it is kept for little longer. Called by the user service, which reads the news every second.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::ids::UserId;
use crate::domain::user::LoginId;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Revocation {
    /// The login has ended, for good.
    Ended(LoginId),
    /// The user was suspended.
    Suspended(UserId),
    /// The user's suspension was lifted.
    Restored(UserId),
}

/// How far a reader has read. The default is before everything that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(pub u64);

/// What was published since a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Oldest first. Of a user only the latest word.
    pub revocations: Vec<Revocation>,
    /// Where to read on.
    pub position: Position,
}

/// Keeps news for a while and hands it to every replica.
#[async_trait]
pub trait RevocationStore: Send + Sync + 'static {
    /// Adds to the news, where it stays for `keep`. Doing it again is no error.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; it may have been published nevertheless.
    async fn publish(&self, revocation: Revocation, keep: Duration) -> Result<(), StoreError>;

    /// What was published after `position` and is still kept. Whatever is missing from one reading is in the next;
    /// something may come twice.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Corrupt`].
    async fn since(&self, position: Position) -> Result<News, StoreError>;
}
