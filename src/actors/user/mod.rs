//! The user service: accounts, logins and the tokens that prove them.
//!
//! [`UserHandle`] is all that others see. Two pools do the work: `user.database` (`accounts.rs`) and `user.hashing`
//! (`hashing.rs`), so that a rush of logins keeps nobody from refreshing. Access tokens (`tokens.rs`) are checked
//! without either, against the revocations that every replica holds (`revocations.rs`). What a login looks like to its
//! user - device, address, last use - is kept beside (`logins.rs`, `sessions.rs`). Ids and times are made here; nothing
//! here knows of HTTP, and no secret is ever logged.

mod accounts;
mod hashing;
mod logins;
mod logins_keeper;
mod refresh;
mod revocations;
mod rules;
mod secret;
mod sessions;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;

use self::accounts::{Accounts, Exchange, Exchanged, Job as AccountJob, Opened};
use self::hashing::{Hashing, Job as HashJob, Match};
use self::logins::Logins;
use self::refresh::RefreshTokens;
use self::revocations::Revocations;
use self::sessions::session;
use super::circuit::Policy;
use super::pool::{self, PoolHandle, PoolSpec};
use super::status::ServiceStatus;
use super::supervisor::{ChildSpec, Intensity};
use crate::clock::Clock;
use crate::config;
use crate::domain::ids::UserId;
use crate::domain::login::Client;
use crate::domain::user::{Caller, EmailKey, Grant, LoginId, Registration, Role, Tokens, User};
use crate::error::{Code, ServiceError};
use crate::storage::login::LoginStore;
use crate::storage::revocation::{Revocation, RevocationStore};
use crate::storage::user::{Credential, Login, UserStore};

pub use self::hashing::{HashCost, InvalidCost};
pub use self::revocations::{Standing, Watch};
pub use self::secret::{MIN_SECRET_BYTES, SecretError, ServerSecret};
pub use self::sessions::LoginList;
pub use self::tokens::TokenIssuer;

const DATABASE_WORKERS: usize = 8;
const DATABASE_CAPACITY: usize = 512;
/// Above the store's own limit for an operation, below that of a whole request.
const DATABASE_DEADLINE: Duration = Duration::from_secs(6);
/// Wait included: a full queue behind few cores takes its time.
const HASHING_DEADLINE: Duration = Duration::from_secs(15);
/// Panics of workers that a pool survives.
const PANICS: Intensity = Intensity::new(5, Duration::from_secs(10));

/// Logins forgotten in one go, and how long after their end.
const PURGE_BATCH: usize = 500;
const PURGE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// What the service is built from.
pub struct Parts {
    pub store: Arc<dyn UserStore>,
    pub revocations: Arc<dyn RevocationStore>,
    pub logins: Arc<dyn LoginStore>,
    pub secret: ServerSecret,
    /// [`HashCost::default`], except in tests.
    pub cost: HashCost,
    pub clock: Clock,
}

/// The way in; cheap to clone, outlives every restart of the service.
#[derive(Clone)]
pub struct UserHandle {
    database: PoolHandle<Accounts>,
    hashing: PoolHandle<Hashing>,
    issuer: Arc<TokenIssuer>,
    refresh_tokens: RefreshTokens,
    revocations: Revocations,
    logins: Logins,
    refresh_ttl: Duration,
    clock: Clock,
}

/// The service's handle, its place in the tree and its state.
pub fn build(
    auth: &config::Auth,
    logins: &config::Logins,
    circuits: &config::Circuits,
    parts: Parts,
) -> (UserHandle, ChildSpec, Arc<ServiceStatus>) {
    let circuit = Policy::from(circuits);
    let refresh_tokens = RefreshTokens::new(&parts.secret);
    let revocations = Revocations::new(parts.revocations, auth.access_ttl);
    let logins = Logins::new(parts.logins, logins.clone(), parts.clock.clone());
    let database = PoolHandle::new(
        PoolSpec {
            name: "user.database",
            workers: DATABASE_WORKERS,
            capacity: DATABASE_CAPACITY,
            deadline: DATABASE_DEADLINE,
            panics: PANICS,
            circuit: circuit.clone(),
        },
        Accounts {
            store: parts.store,
            tokens: refresh_tokens.clone(),
            revocations: revocations.clone(),
            logins: logins.clone(),
        },
    );
    let hashing = PoolHandle::new(
        PoolSpec {
            name: "user.hashing",
            workers: auth.hashing_workers,
            capacity: auth.hashing_workers + auth.hashing_queue,
            deadline: HASHING_DEADLINE,
            panics: PANICS,
            circuit,
        },
        Hashing::new(parts.cost),
    );
    let status = ServiceStatus::new("user", vec![database.view(), hashing.view()]);
    let children = vec![
        pool::child(&database),
        pool::child(&hashing),
        revocations::child(&revocations),
        logins_keeper::child(&logins),
    ];
    let spec = ChildSpec::supervisor("user", children).status(Arc::clone(&status));
    let issuer = TokenIssuer::new(&parts.secret, auth.access_ttl, parts.clock.clone());
    let handle = UserHandle {
        database,
        hashing,
        issuer: Arc::new(issuer),
        refresh_tokens,
        revocations,
        logins,
        refresh_ttl: auth.refresh_ttl,
        clock: parts.clock,
    };
    (handle, spec, status)
}

impl UserHandle {
    /// Opens an account and signs in. With a `reserved` id a repeat of the same registration signs in again instead
    /// of failing, so that an answer that was lost on its way costs nothing.
    ///
    /// # Errors
    /// `invalid_request` with a detail for each bad field; `conflict` if the e-mail address is taken;
    /// `service_unavailable` at once when too many wait for a hash.
    pub async fn register(
        &self,
        registration: Registration,
        reserved: Option<UserId>,
        client: Client,
    ) -> Result<Grant, ServiceError> {
        let new = rules::check(registration)?;
        let credential = self.hash(new.password.clone()).await?;
        let now = self.now();
        let user = User {
            id: reserved.unwrap_or_else(|| UserId::new(now)),
            email: new.email,
            display_name: new.display_name,
            role: Role::Reader,
            suspended_at: None,
            created_at: now,
            updated_at: now,
        };
        let boxed = Box::new(user.clone());
        let open = |reply| AccountJob::Open(boxed, credential, reply);
        match self.database.call(open).await? {
            Opened::New => self.sign_in(user, client).await,
            Opened::Earlier(account) => {
                let (held, user) = (account.credential, account.user);
                match self.check(new.password, held).await? {
                    Match::Wrong => Err(accounts::taken()),
                    Match::Right { .. } if user.is_suspended() => Err(accounts::suspended()),
                    Match::Right { .. } => self.sign_in(user, client).await,
                }
            }
        }
    }

    /// Signs in with a password. An unknown address and a wrong password take equally long and look the same.
    ///
    /// # Errors
    /// `unauthenticated`; `insufficient_permissions` while the account is suspended (told only to who knows the
    /// password); `service_unavailable` at once when too many wait for a hash.
    pub async fn login(
        &self,
        email: &str,
        password: SecretString,
        client: Client,
    ) -> Result<Grant, ServiceError> {
        // Nobody can have registered these, and nothing is hashed at any length a stranger likes.
        let possible = email.len() <= rules::MAX_EMAIL_BYTES + 64
            && password.expose_secret().len() <= rules::MAX_PASSWORD_BYTES;
        let (account, password) = if possible {
            let key = EmailKey::new(email);
            (self.database.call(|reply| AccountJob::FindAccount(key, reply)).await?, password)
        } else {
            (None, SecretString::default())
        };
        let (user, held) = match account {
            Some(account) => (Some(account.user), account.credential),
            None => (None, None),
        };
        let found = self.check(password.clone(), held).await?;
        match (user, found) {
            (Some(user), Match::Right { .. }) if user.is_suspended() => Err(accounts::suspended()),
            (Some(user), Match::Right { outdated }) => {
                if outdated {
                    self.renew_credential(user.id, password).await;
                }
                self.sign_in(user, client).await
            }
            _ => Err(ServiceError::new(
                Code::Unauthenticated,
                "no account has this e-mail address and password",
            )),
        }
    }

    /// Exchanges a refresh token for a new pair. Within 10 s the same token gives the same new refresh token again;
    /// later it ends the login.
    ///
    /// # Errors
    /// `invalid_token`; `insufficient_permissions` while the account is suspended.
    pub async fn refresh(
        &self,
        token: &SecretString,
        client: Client,
    ) -> Result<Grant, ServiceError> {
        let unknown = || ServiceError::new(Code::InvalidToken, "the refresh token is not valid");
        let presented = self.refresh_tokens.recognise(token).ok_or_else(unknown)?;
        let now = self.now();
        let exchange = Exchange { presented, now, expires_at: self.expiry(now) };
        let Exchanged { user, login, token } =
            self.database.call(|reply| AccountJob::Exchange(exchange, reply)).await?;
        // Perhaps it is another device by now, and perhaps the store has forgotten about the login.
        self.logins.begun(session(&login, client, now));
        Ok(self.grant(user, login.id, token))
    }

    /// The user, suspended or not.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn find(&self, id: UserId) -> Result<Option<User>, ServiceError> {
        self.database.call(|reply| AccountJob::FindUser(id, reply)).await
    }

    /// The user as it is shown to itself: what other replicas changed in the last moments may be missing. Nothing is
    /// to be allowed because of it.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn profile(&self, id: UserId) -> Result<Option<User>, ServiceError> {
        self.database.call(|reply| AccountJob::FindProfile(id, reply)).await
    }

    /// Who an access token speaks for. Asks nobody: costs microseconds, works while every store is down.
    ///
    /// # Errors
    /// `invalid_token`, also when the token's login has ended; an expired token has a code of its own.
    /// `insufficient_permissions` for a good token of a user who is suspended.
    pub fn verify(&self, token: &str) -> Result<Caller, ServiceError> {
        let caller = self.issuer.verify(token)?;
        match self.revocations.standing(&caller) {
            Standing::Good => {
                self.logins.used(&caller);
                Ok(caller)
            }
            Standing::Ended => Err(accounts::over()),
            Standing::Suspended => Err(accounts::suspended()),
        }
    }

    /// How someone stands whose token was good. Asks nobody.
    pub fn standing(&self, caller: &Caller) -> Standing {
        self.revocations.standing(caller)
    }

    /// Has a caller watched who stays for longer than a request; `parent` tells it as well.
    pub fn watch(&self, caller: &Caller, parent: &CancellationToken) -> Watch {
        self.revocations.watch(caller, parent)
    }

    /// Revocations that are held, and how old the last news of others is.
    pub fn revocations(&self) -> (usize, Duration) {
        (self.revocations.known(), self.revocations.stale_for())
    }

    /// Suspends a user, or lifts the suspension; `Ok(false)` if there is no such user. Access tokens and connections
    /// of a suspended user end here at once, on other replicas within two seconds.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn set_suspended(&self, id: UserId, suspended: bool) -> Result<bool, ServiceError> {
        let now = self.now();
        let since = suspended.then_some(now);
        let found = self.database.call(|reply| AccountJob::Suspend(id, since, now, reply)).await?;
        if found {
            let what = if suspended { Revocation::Suspended } else { Revocation::Restored };
            self.revocations.publish(what(id)).await;
        }
        Ok(found)
    }

    /// Forgets logins that ended by themselves more than a day ago; returns how many. For a timer.
    ///
    /// # Errors
    /// `service_unavailable`, `timeout`.
    pub async fn purge(&self) -> Result<u64, ServiceError> {
        let before = self.now() - PURGE_AFTER;
        self.database.call(|reply| AccountJob::Purge(before, PURGE_BATCH, reply)).await
    }

    async fn sign_in(&self, user: User, client: Client) -> Result<Grant, ServiceError> {
        let now = self.now();
        let id = LoginId::new(now);
        let token = self.refresh_tokens.mint(id);
        let login = Box::new(Login {
            id,
            user: user.id,
            current: refresh::hash(&token),
            previous: None,
            created_at: now,
            last_used_at: now,
            expires_at: self.expiry(now),
            revoked_at: None,
        });
        let begun = session(&login, client, now);
        self.database.call(|reply| AccountJob::CreateLogin(login, reply)).await?;
        self.logins.begun(begun);
        Ok(self.grant(user, id, token))
    }

    fn grant(&self, user: User, login: LoginId, refresh_token: SecretString) -> Grant {
        let access_token = self.issuer.issue(&user, login);
        let expires_in = self.issuer.ttl();
        Grant { user, tokens: Tokens { access_token, expires_in, refresh_token } }
    }

    async fn hash(&self, password: SecretString) -> Result<Credential, ServiceError> {
        self.hashing.call(|reply| HashJob::Make(password, reply)).await
    }

    async fn check(
        &self,
        password: SecretString,
        held: Option<Credential>,
    ) -> Result<Match, ServiceError> {
        self.hashing.call(|reply| HashJob::Check(password, held, reply)).await
    }

    /// Brings a stored hash to today's costs. Not worth failing a login for.
    async fn renew_credential(&self, user: UserId, password: SecretString) {
        let renewed = async {
            let credential = self.hash(password).await?;
            let now = self.now();
            let set = |reply| AccountJob::SetCredential(user, credential, now, reply);
            self.database.call(set).await
        };
        if let Err(error) = renewed.await {
            tracing::warn!(%user, %error, "password hash stays at its old costs");
        }
    }

    fn expiry(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.refresh_ttl).unwrap_or(Timestamp::MAX)
    }

    /// To the microsecond, as stores keep it.
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}
