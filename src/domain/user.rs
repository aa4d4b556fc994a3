//! A reader's account.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::UserId;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Reader,
    Moderator,
    Admin,
}

#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    /// As the user wrote it; compared without regard to case.
    pub email: String,
    pub display_name: String,
    pub role: Role,
    /// Set while the account is suspended.
    pub suspended_at: Option<Timestamp>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Who makes a request, as proved by a valid access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub role: Role,
    /// When the proof runs out.
    pub expires_at: Timestamp,
}
