//! The part of the handle that ends logins, and shows a user its own.

use jiff::Timestamp;
use secrecy::SecretString;

use super::UserHandle;
use super::accounts::{Ending, EndingAll, Job};
use crate::domain::login::{Client, LoginSession};
use crate::domain::user::{Caller, LoginId};
use crate::error::{Code, ServiceError};
use crate::storage::login::MAX_OF_USER;
use crate::storage::revocation::Revocation;
use crate::storage::user::Login;

/// A user's logins, the last used first.
#[derive(Debug, Clone)]
pub struct LoginList {
    pub items: Vec<LoginSession>,
    /// There are others, which were used less recently.
    pub more: bool,
}

impl UserHandle {
    /// Ends the login that the refresh token belongs to, and with it the access tokens already given out: here at
    /// once, on other replicas within two seconds. A token that belongs to none is no error.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn logout(&self, token: &SecretString) -> Result<(), ServiceError> {
        let Some(presented) = self.refresh_tokens.recognise(token) else { return Ok(()) };
        let login = presented.login;
        let ending = Ending { login, owner: None, now: self.now() };
        let user = self.database.call(|reply| Job::EndLogin(ending, reply)).await?;
        // Also when it had ended before: that may not have been told.
        self.revocations.publish(Revocation::Ended(login)).await;
        if let Some(user) = user {
            self.logins.ended(user, login).await;
        }
        Ok(())
    }

    /// The caller's logins that are good, up to a thousand: those that the database has, with what is known of them
    /// besides.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`, for the database alone.
    pub async fn logins(&self, caller: &Caller) -> Result<LoginList, ServiceError> {
        let (user, now) = (caller.user, self.now());
        let list = |reply| Job::ListLogins(user, now, MAX_OF_USER + 1, reply);
        let mut families = self.database.call(list).await?;
        let more = families.len() > MAX_OF_USER;
        families.truncate(MAX_OF_USER);
        Ok(LoginList { items: self.logins.of_user(user, families).await, more })
    }

    /// Ends a login of the caller, as [`Self::logout`] does. One that has ended already is no error.
    ///
    /// # Errors
    /// `not_found` for a login of someone else, and for none; `service_unavailable`, `timeout`.
    pub async fn end_login(&self, caller: &Caller, login: LoginId) -> Result<(), ServiceError> {
        let user = caller.user;
        let ending = Ending { login, owner: Some(user), now: self.now() };
        let found = self.database.call(|reply| Job::EndLogin(ending, reply)).await?;
        found.ok_or_else(|| ServiceError::new(Code::NotFound, "no such login"))?;
        self.revocations.publish(Revocation::Ended(login)).await;
        self.logins.ended(user, login).await;
        Ok(())
    }

    /// Ends all logins of the caller, or all but the one that asks, as [`Self::logout`] does.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`; some may have ended then, and a repeat ends and tells of the rest.
    pub async fn end_logins(
        &self,
        caller: &Caller,
        keep_current: bool,
    ) -> Result<(), ServiceError> {
        let (user, now) = (caller.user, self.now());
        let except = keep_current.then_some(caller.login);
        // What ended earlier has no tokens left that are good.
        let since = now.saturating_sub(self.issuer.ttl()).unwrap_or(Timestamp::MIN);
        let ending = EndingAll { user, except, now, since };
        let ended = self.database.call(|reply| Job::EndLogins(ending, reply)).await?;
        let news: Vec<_> = ended.iter().copied().map(Revocation::Ended).collect();
        self.revocations.publish_all(&news).await;
        self.logins.all_ended(user, &ended, except).await;
        Ok(())
    }
}

/// A login as its user sees it, used just now.
pub(super) fn session(login: &Login, client: Client, now: Timestamp) -> LoginSession {
    LoginSession {
        id: login.id,
        user: login.user,
        client,
        created_at: login.created_at,
        last_used_at: now,
        expires_at: login.expires_at,
    }
}
