//! The work behind `user.database`: what is done with the store, a job at a time.

use std::sync::Arc;

use jiff::Timestamp;
use secrecy::SecretString;

use super::logins::Logins;
use super::refresh::{Presented, RefreshTokens, Verdict, hash, judge};
use super::revocations::Revocations;
use crate::actors::pool::{Failure, Reply, Trip, Work};
use crate::domain::ids::UserId;
use crate::domain::user::{EmailKey, LoginId, User};
use crate::error::{Code, ServiceError};
use crate::storage::StoreError;
use crate::storage::revocation::Revocation;
use crate::storage::user::{Account, Credential, Login, Rotated, Rotation, UserStore};

pub(super) enum Job {
    Open(Box<User>, Credential, Reply<Opened>),
    FindUser(UserId, Reply<Option<User>>),
    FindProfile(UserId, Reply<Option<User>>),
    FindAccount(EmailKey, Reply<Option<Account>>),
    SetCredential(UserId, Credential, Timestamp, Reply<bool>),
    CreateLogin(Box<Login>, Reply<()>),
    Exchange(Exchange, Reply<Exchanged>),
    /// The user's logins that are good at that time, as many at most.
    ListLogins(UserId, Timestamp, usize, Reply<Vec<Login>>),
    EndLogin(Ending, Reply<Option<UserId>>),
    EndLogins(EndingAll, Reply<Vec<LoginId>>),
    Suspend(UserId, Option<Timestamp>, Timestamp, Reply<bool>),
    Purge(Timestamp, usize, Reply<u64>),
}

/// What opening an account came to.
#[derive(Debug)]
pub(super) enum Opened {
    New,
    /// The very user, by id and e-mail, is there: an earlier attempt got that far.
    Earlier(Box<Account>),
}

/// A refresh token presented, and what it is exchanged under.
pub(super) struct Exchange {
    pub presented: Presented,
    pub now: Timestamp,
    pub expires_at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Exchanged {
    pub user: User,
    /// As it is after the exchange, but for its tokens.
    pub login: Login,
    pub token: SecretString,
}

/// A login to be ended; one of another user than `owner` is none.
pub(super) struct Ending {
    pub login: LoginId,
    pub owner: Option<UserId>,
    pub now: Timestamp,
}

/// All logins of a user to be ended but `except`. What has ended since `since` is told.
pub(super) struct EndingAll {
    pub user: UserId,
    pub except: Option<LoginId>,
    pub now: Timestamp,
    pub since: Timestamp,
}

pub(super) struct Accounts {
    pub store: Arc<dyn UserStore>,
    pub tokens: RefreshTokens,
    pub revocations: Revocations,
    pub logins: Logins,
}

impl Work for Accounts {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        let store = &self.store;
        match job {
            Job::Open(user, credential, reply) => reply.answer(self.open(&user, &credential).await),
            Job::FindUser(id, reply) => reply.answer(store.find_user(id).await),
            Job::FindProfile(id, reply) => reply.answer(store.find_profile(id).await),
            Job::FindAccount(email, reply) => reply.answer(store.find_account(&email).await),
            Job::SetCredential(user, credential, now, reply) => {
                reply.answer(store.set_credential(user, &credential, now).await)
            }
            Job::CreateLogin(login, reply) => reply.answer(store.create_login(&login).await),
            Job::Exchange(exchange, reply) => reply.answer(self.exchange(&exchange).await),
            Job::ListLogins(user, now, most, reply) => {
                reply.answer(store.list_logins(user, now, most).await)
            }
            Job::EndLogin(ending, reply) => reply.answer(self.end(&ending).await),
            Job::EndLogins(EndingAll { user, except, now, since }, reply) => {
                reply.answer(store.revoke_logins(user, except, now, since).await)
            }
            Job::Suspend(user, since, now, reply) => {
                reply.answer(store.set_suspension(user, since, now).await)
            }
            Job::Purge(before, most, reply) => reply.answer(store.purge_logins(before, most).await),
        }
    }

    async fn probe(&self) -> Result<(), Trip> {
        Ok(self.store.probe().await?)
    }
}

impl Accounts {
    async fn open(&self, user: &User, credential: &Credential) -> Result<Opened, Failure> {
        match self.store.create_user(user, Some(credential)).await {
            Ok(()) => Ok(Opened::New),
            Err(StoreError::Conflict(_)) => {
                let held = self.store.find_account(&EmailKey::new(&user.email)).await?;
                match held {
                    Some(account) if account.user.id == user.id => {
                        Ok(Opened::Earlier(Box::new(account)))
                    }
                    _ => Err(taken().into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whose login it was, ended now or before.
    async fn end(&self, ending: &Ending) -> Result<Option<UserId>, StoreError> {
        let found = self.store.find_login(ending.login).await?.map(|(login, _)| login.user);
        let owner = found.filter(|user| ending.owner.is_none_or(|owner| owner == *user));
        if owner.is_some() {
            self.store.revoke_login(ending.login, ending.now).await?;
        }
        Ok(owner)
    }

    async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged, Failure> {
        let Exchange { presented, now, .. } = exchange;
        // Whoever loses the race for the exchange finds, the second time, that the token was just exchanged.
        for _ in 0..2 {
            let found = self.store.find_login(presented.login).await?;
            let Some((login, user)) = found else { return Err(over().into()) };
            match judge(&login, &presented.hash, *now) {
                Verdict::Over => return Err(over().into()),
                Verdict::Reused => {
                    self.store.revoke_login(login.id, *now).await?;
                    self.revocations.publish(Revocation::Ended(login.id)).await;
                    self.logins.ended(user.id, login.id).await;
                    tracing::warn!(
                        user = %user.id,
                        login = %login.id.0,
                        "an exchanged refresh token was used again: login ended"
                    );
                    return Err(over().into());
                }
                _ if user.is_suspended() => return Err(suspended().into()),
                Verdict::Again(sealed) => {
                    let token = presented.open(sealed).ok_or_else(|| {
                        tracing::error!(login = %login.id.0, "a sealed successor cannot be opened");
                        ServiceError::internal()
                    })?;
                    return Ok(Exchanged { user, login, token });
                }
                Verdict::Exchange => {
                    let token = self.tokens.mint(login.id);
                    let rotation = Rotation {
                        login: login.id,
                        from: Rotated {
                            hash: presented.hash,
                            at: *now,
                            successor: presented.seal(&token),
                        },
                        to: hash(&token),
                        expires_at: exchange.expires_at,
                    };
                    if self.store.rotate_login(&rotation).await? {
                        let expires_at = exchange.expires_at;
                        let login = Login { last_used_at: *now, expires_at, ..login };
                        return Ok(Exchanged { user, login, token });
                    }
                }
            }
        }
        Err(over().into())
    }
}

pub(super) fn taken() -> ServiceError {
    ServiceError::new(Code::Conflict, "an account with this e-mail address exists already")
}

pub(super) fn suspended() -> ServiceError {
    ServiceError::new(Code::InsufficientPermissions, "this account is suspended")
}

pub(super) fn over() -> ServiceError {
    ServiceError::new(Code::InvalidToken, "this login has ended; sign in again")
}
