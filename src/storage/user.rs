//! Accounts, their credentials and their logins.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::ids::UserId;
use crate::domain::user::{EmailKey, LoginId, User};

/// How a stored password hash was made. A number, so that a later scheme can be told from an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordScheme {
    /// A PHC string of argon2id over the password's bytes; its costs stand in the string.
    Argon2id,
}

impl PasswordScheme {
    pub const fn number(self) -> i16 {
        match self {
            PasswordScheme::Argon2id => 1,
        }
    }

    pub const fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(PasswordScheme::Argon2id),
            _ => None,
        }
    }
}

/// What a password is checked against.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub scheme: PasswordScheme,
    pub hash: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

/// A user with what proves it.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    pub user: User,
    /// Absent where the user signs in by other means only.
    pub credential: Option<Credential>,
}

/// SHA-256 of a refresh token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A family of refresh tokens. Only the newest token is good; the one before it is kept to recognise a refresh that
/// was sent twice.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub id: LoginId,
    pub user: UserId,
    pub current: TokenHash,
    pub previous: Option<Rotated>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("expires_at", &self.expires_at)
            .field("revoked_at", &self.revoked_at)
            .finish_non_exhaustive()
    }
}

/// The token that was exchanged for the current one.
#[derive(Clone, PartialEq, Eq)]
pub struct Rotated {
    pub hash: TokenHash,
    pub at: Timestamp,
    /// The current token, sealed with a key that only the holder of the exchanged one has.
    pub successor: Vec<u8>,
}

impl fmt::Debug for Rotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotated").field("at", &self.at).finish_non_exhaustive()
    }
}

/// One exchange of a login's token.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub login: LoginId,
    /// The token presented; must still be the current one.
    pub from: Rotated,
    pub to: TokenHash,
    pub expires_at: Timestamp,
}

/// Accounts, credentials and logins. Times are kept to the microsecond.
///
/// # Errors
/// Every method: [`StoreError::Unavailable`] if the store cannot be reached, is locked for too long or broke,
/// [`StoreError::Corrupt`] if a record cannot be read.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Stores a new user with its credential, both or neither.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the id or the e-mail (without regard to case) is taken.
    async fn create_user(
        &self,
        user: &User,
        credential: Option<&Credential>,
    ) -> Result<(), StoreError>;

    async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError>;

    /// The user as it is shown, not as it is judged: perhaps as it was a moment ago, where others wrote since. What
    /// was written through this store before is in it.
    async fn find_profile(&self, id: UserId) -> Result<Option<User>, StoreError> {
        self.find_user(id).await
    }

    async fn find_account(&self, email: &EmailKey) -> Result<Option<Account>, StoreError>;

    /// Replaces or adds the credential; `Ok(false)` if there is no such user.
    async fn set_credential(
        &self,
        user: UserId,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Suspends the user from `since` on, or lifts the suspension; `Ok(false)` if there is no such user.
    async fn set_suspension(
        &self,
        user: UserId,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Stores a new login.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the id is taken or there is no such user.
    async fn create_login(&self, login: &Login) -> Result<(), StoreError>;

    /// The login and its user, revoked and expired ones included.
    async fn find_login(&self, id: LoginId) -> Result<Option<(Login, User)>, StoreError>;

    /// Exchanges the current token. `Ok(false)` if the token presented is no longer the current one, or the login
    /// is revoked or gone: of two that present the same token, one wins.
    async fn rotate_login(&self, rotation: &Rotation) -> Result<bool, StoreError>;

    /// Ends a login for good. `Ok(false)` if it is gone or was ended before.
    async fn revoke_login(&self, id: LoginId, now: Timestamp) -> Result<bool, StoreError>;

    /// Up to `limit` of the user's logins that are good at `now`, the last used first.
    async fn list_logins(
        &self,
        user: UserId,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<Login>, StoreError>;

    /// Ends all logins of the user but `except`. Tells which of them have ended since `since`, by this call or before
    /// it, so that a repeat after a lost answer tells them again.
    async fn revoke_logins(
        &self,
        user: UserId,
        except: Option<LoginId>,
        now: Timestamp,
        since: Timestamp,
    ) -> Result<Vec<LoginId>, StoreError>;

    /// Forgets up to `limit` logins that expired before `before`; returns how many.
    async fn purge_logins(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Cheap round trip that tells whether the store answers.
    async fn probe(&self) -> Result<(), StoreError>;
}
