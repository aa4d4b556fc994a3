//! A reader's account: who it is, what proves it, and the logins that keep it signed in.
//!
//! Nothing here does I/O. Secrets are held in types whose `Debug` shows nothing.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::UserId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Reader,
    Moderator,
    Admin,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Moderator => "moderator",
            Role::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Role::Reader, Role::Moderator, Role::Admin].into_iter().find(|role| role.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    /// As the user wrote it, without surrounding blanks; compared without regard to case.
    pub email: String,
    pub display_name: String,
    pub role: Role,
    /// Set while the account is suspended.
    pub suspended_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl User {
    pub fn is_suspended(&self) -> bool {
        self.suspended_at.is_some()
    }
}

/// An e-mail address in the one form that is compared and must be unique: trimmed and in lower case.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailKey(String);

impl EmailKey {
    pub fn new(email: &str) -> Self {
        Self(email.trim().to_lowercase())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EmailKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailKey(…)")
    }
}

/// One sign-in on one device: the family of refresh tokens that grew from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginId(pub Uuid);

impl LoginId {
    /// A new UUIDv7 whose time part is `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(UserId::new(now).0)
    }
}

/// Who makes a request, as proved by a valid access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub role: Role,
    /// The login that the token was issued to.
    pub login: LoginId,
    /// When the proof runs out.
    pub expires_at: Timestamp,
}

/// What someone hands in to get an account; not yet checked.
#[derive(Debug, Clone)]
pub struct Registration {
    pub email: String,
    pub password: SecretString,
    pub display_name: String,
}

/// A pair of tokens, given out once and never readable again.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub access_token: SecretString,
    /// Life of the access token, in whole seconds.
    pub expires_in: Duration,
    pub refresh_token: SecretString,
}

/// What a successful registration, login or refresh gives.
#[derive(Debug, Clone)]
pub struct Grant {
    pub user: User,
    pub tokens: Tokens,
}
