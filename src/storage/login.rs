//! What is known of logins beside their credentials: device, address, last use. Shared by all replicas where the store
//! is.
//!
//! Not the record of which logins there are: that is the user store's, and this one may forget everything at any time
//! without ending a login. Called by the keeper of logins (`actors/user/logins.rs`) alone.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::domain::ids::UserId;
use crate::domain::login::LoginSession;
use crate::domain::user::LoginId;

/// Logins of one user that are kept; beyond it those are forgotten that end first.
pub const MAX_OF_USER: usize = 1_000;

/// Longer is as good as for ever, and every back end's arithmetic holds it.
pub(super) const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Login sessions, by user. Times are kept to the microsecond.
///
/// # Errors
/// Every method: [`StoreError::Unavailable`]; a change may have been made nevertheless. Each may be repeated.
#[async_trait]
pub trait LoginStore: Send + Sync + 'static {
    /// Keeps the login for `keep` from now, in place of what was known of it. Its last use never goes back.
    async fn record(&self, login: &LoginSession, keep: Duration) -> Result<(), StoreError>;

    /// Notes a use, unless a later one is known; `Ok(false)` if the login is not known. Keeps nothing for longer.
    async fn touch(&self, user: UserId, login: LoginId, at: Timestamp) -> Result<bool, StoreError>;

    /// Everything known of the user's logins, in no particular order, at most [`MAX_OF_USER`].
    async fn list_of_user(&self, user: UserId) -> Result<Vec<LoginSession>, StoreError>;

    /// Forgets one login. One that is not known is no error.
    async fn remove(&self, user: UserId, login: LoginId) -> Result<(), StoreError>;

    /// Forgets all logins of the user but `except`.
    async fn remove_of_user(&self, user: UserId, except: Option<LoginId>)
    -> Result<(), StoreError>;
}
