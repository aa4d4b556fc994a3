//! Accounts in PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{query, query_as};
use uuid::Uuid;

use super::pool::Pool;
use super::replica::Replica;
use super::row::{Time, digest, limit};
use super::session::{Repeat, Statement};
use crate::domain::ids::UserId;
use crate::domain::user::{EmailKey, LoginId, Role, User};
use crate::storage::StoreError;
use crate::storage::user::{
    Account, Credential, Login, PasswordScheme, Rotated, Rotation, TokenHash, UserStore,
};

#[derive(Debug, Clone)]
pub struct PostgresUserStore {
    primary: Pool,
    replica: Option<Arc<Replica>>,
}

#[derive(sqlx::FromRow)]
struct UserRow {
    id: Uuid,
    email: String,
    display_name: String,
    role: String,
    suspended_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        let role = Role::parse(&row.role)
            .ok_or_else(|| StoreError::Corrupt("users.role is not a role".into()))?;
        Ok(User {
            id: UserId(row.id),
            email: row.email,
            display_name: row.display_name,
            role,
            suspended_at: row.suspended_at.map(|at| at.0),
            created_at: row.created_at.0,
            updated_at: row.updated_at.0,
        })
    }
}

#[derive(sqlx::FromRow)]
struct AccountRow {
    #[sqlx(flatten)]
    user: UserRow,
    scheme: Option<i16>,
    hash: Option<String>,
}

impl TryFrom<AccountRow> for Account {
    type Error = StoreError;

    fn try_from(row: AccountRow) -> Result<Self, StoreError> {
        let credential = match (row.scheme, row.hash) {
            (Some(number), Some(hash)) => {
                let scheme = PasswordScheme::from_number(number.into()).ok_or_else(|| {
                    StoreError::Corrupt(format!("credentials.scheme {number} is unknown"))
                })?;
                Some(Credential { scheme, hash })
            }
            _ => None,
        };
        Ok(Account { user: row.user.try_into()?, credential })
    }
}

#[derive(sqlx::FromRow)]
struct LoginRow {
    login_id: Uuid,
    current_hash: Vec<u8>,
    previous_hash: Option<Vec<u8>>,
    rotated_at: Option<Time>,
    successor: Option<Vec<u8>>,
    login_created_at: Time,
    last_used_at: Time,
    expires_at: Time,
    revoked_at: Option<Time>,
    #[sqlx(flatten)]
    user: UserRow,
}

impl TryFrom<LoginRow> for (Login, User) {
    type Error = StoreError;

    fn try_from(row: LoginRow) -> Result<Self, StoreError> {
        let user = User::try_from(row.user)?;
        let previous = match (row.previous_hash, row.rotated_at, row.successor) {
            (Some(hash), Some(at), Some(successor)) => Some(Rotated {
                hash: TokenHash(digest(&hash, "logins.previous_hash")?),
                at: at.0,
                successor,
            }),
            _ => None,
        };
        let login = Login {
            id: LoginId(row.login_id),
            user: user.id,
            current: TokenHash(digest(&row.current_hash, "logins.current_hash")?),
            previous,
            created_at: row.login_created_at.0,
            last_used_at: row.last_used_at.0,
            expires_at: row.expires_at.0,
            revoked_at: row.revoked_at.map(|at| at.0),
        };
        Ok((login, user))
    }
}

const FIND_USER: &str = "
    SELECT id, email, display_name, role, suspended_at, created_at, updated_at
    FROM users WHERE id = $1";

/// User and credential in one statement, so that a commit is one round trip and never half.
const CREATE_USER: &str = "
    WITH created AS (
        INSERT INTO users (id, email, email_key, display_name, role, suspended_at, created_at,
            updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        RETURNING id
    )
    INSERT INTO credentials (user_id, scheme, hash, updated_at)
    SELECT id, $9, $10, $7 FROM created WHERE $10 IS NOT NULL";

const PUT_CREDENTIAL: &str = "
    INSERT INTO credentials (user_id, scheme, hash, updated_at)
    SELECT id, $2, $3, $4 FROM users WHERE id = $1
    ON CONFLICT (user_id) DO UPDATE
    SET scheme = excluded.scheme, hash = excluded.hash, updated_at = excluded.updated_at";

impl PostgresUserStore {
    pub(super) fn new(primary: Pool, replica: Option<Arc<Replica>>) -> Self {
        Self { primary, replica }
    }

    /// A write of what a replica may be asked for: later reads of this user are not served from before it.
    async fn write<'q>(
        &self,
        user: UserId,
        repeat: Repeat,
        statement: impl Fn() -> Statement<'q> + Send + Sync,
    ) -> Result<u64, StoreError> {
        let Some(replica) = &self.replica else {
            return self.primary.execute(repeat, statement).await;
        };
        let outcome = self
            .primary
            .run(repeat, || async {
                let mut session = self.primary.session().await?;
                let changed = session.execute(statement()).await?;
                Ok((changed, Replica::position_after_write(&mut session).await))
            })
            .await;
        match &outcome {
            Ok((_, position)) => replica.wrote(user, *position),
            // It may have happened, or happen yet.
            Err(error) if error.is_dependency_failure() => replica.wrote(user, None),
            Err(_) => {}
        }
        outcome.map(|(changed, _)| changed)
    }
}

#[async_trait]
impl UserStore for PostgresUserStore {
    async fn create_user(
        &self,
        user: &User,
        credential: Option<&Credential>,
    ) -> Result<(), StoreError> {
        let key = EmailKey::new(&user.email);
        let statement = || {
            query(CREATE_USER)
                .bind(user.id.0)
                .bind(&user.email)
                .bind(key.as_str())
                .bind(&user.display_name)
                .bind(user.role.as_str())
                .bind(user.suspended_at.map(Time))
                .bind(Time(user.created_at))
                .bind(Time(user.updated_at))
                .bind(credential.map(|credential| credential.scheme.number()))
                .bind(credential.map(|credential| &credential.hash))
        };
        self.write(user.id, Repeat::Unsafe, statement).await.map(|_| ())
    }

    async fn find_user(&self, user: UserId) -> Result<Option<User>, StoreError> {
        let row = self.primary.find(|| query_as::<_, UserRow>(FIND_USER).bind(user.0)).await?;
        row.map(User::try_from).transpose()
    }

    async fn find_profile(&self, user: UserId) -> Result<Option<User>, StoreError> {
        if let Some(replica) = &self.replica {
            let query = query_as::<_, UserRow>(FIND_USER).bind(user.0);
            if let Some(row) = replica.find(&self.primary, user, query).await {
                return User::try_from(row).map(Some);
            }
        }
        self.find_user(user).await
    }

    async fn find_account(&self, email: &EmailKey) -> Result<Option<Account>, StoreError> {
        // A text with this in it is an error to the server; nobody has such an address.
        if email.as_str().contains('\0') {
            return Ok(None);
        }
        let row = self
            .primary
            .find(|| {
                query_as::<_, AccountRow>(
                    "SELECT u.id, u.email, u.display_name, u.role, u.suspended_at, u.created_at,
                         u.updated_at, c.scheme, c.hash
                     FROM users u LEFT JOIN credentials c ON c.user_id = u.id
                     WHERE u.email_key = $1",
                )
                .bind(email.as_str())
            })
            .await?;
        row.map(Account::try_from).transpose()
    }

    async fn set_credential(
        &self,
        user: UserId,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let statement = || {
            query(PUT_CREDENTIAL)
                .bind(user.0)
                .bind(credential.scheme.number())
                .bind(&credential.hash)
                .bind(Time(now))
        };
        Ok(self.primary.execute(Repeat::Safe, statement).await? > 0)
    }

    async fn set_suspension(
        &self,
        user: UserId,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let statement = || {
            query("UPDATE users SET suspended_at = $2, updated_at = $3 WHERE id = $1")
                .bind(user.0)
                .bind(since.map(Time))
                .bind(Time(now))
        };
        Ok(self.write(user, Repeat::Safe, statement).await? > 0)
    }

    async fn create_login(&self, login: &Login) -> Result<(), StoreError> {
        let previous = login.previous.as_ref();
        let statement = || {
            query(
                "INSERT INTO logins (id, user_id, current_hash, previous_hash, rotated_at,
                     successor, created_at, last_used_at, expires_at, revoked_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            )
            .bind(login.id.0)
            .bind(login.user.0)
            .bind(login.current.0.as_slice())
            .bind(previous.map(|previous| previous.hash.0.as_slice()))
            .bind(previous.map(|previous| Time(previous.at)))
            .bind(previous.map(|previous| previous.successor.as_slice()))
            .bind(Time(login.created_at))
            .bind(Time(login.last_used_at))
            .bind(Time(login.expires_at))
            .bind(login.revoked_at.map(Time))
        };
        self.primary.execute(Repeat::Unsafe, statement).await.map(|_| ())
    }

    async fn find_login(&self, login: LoginId) -> Result<Option<(Login, User)>, StoreError> {
        let row = self
            .primary
            .find(|| {
                query_as::<_, LoginRow>(
                    "SELECT l.id AS login_id, l.current_hash, l.previous_hash, l.rotated_at,
                         l.successor, l.created_at AS login_created_at, l.last_used_at,
                         l.expires_at, l.revoked_at, u.id, u.email, u.display_name, u.role,
                         u.suspended_at, u.created_at, u.updated_at
                     FROM logins l JOIN users u ON u.id = l.user_id
                     WHERE l.id = $1",
                )
                .bind(login.0)
            })
            .await?;
        row.map(<(Login, User)>::try_from).transpose()
    }

    async fn rotate_login(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        // Whoever waits for another's row lock looks at the row again when it has it: one wins.
        let statement = || {
            query(
                "UPDATE logins
                 SET current_hash = $3, previous_hash = $2, rotated_at = $4, successor = $5,
                     last_used_at = $4, expires_at = $6
                 WHERE id = $1 AND current_hash = $2 AND revoked_at IS NULL",
            )
            .bind(rotation.login.0)
            .bind(rotation.from.hash.0.as_slice())
            .bind(rotation.to.0.as_slice())
            .bind(Time(rotation.from.at))
            .bind(rotation.from.successor.as_slice())
            .bind(Time(rotation.expires_at))
        };
        Ok(self.primary.execute(Repeat::Unsafe, statement).await? > 0)
    }

    async fn revoke_login(&self, login: LoginId, now: Timestamp) -> Result<bool, StoreError> {
        let statement = || {
            query("UPDATE logins SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
                .bind(login.0)
                .bind(Time(now))
        };
        Ok(self.primary.execute(Repeat::Unsafe, statement).await? > 0)
    }

    async fn list_logins(
        &self,
        user: UserId,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Login>, StoreError> {
        let rows = self
            .primary
            .run(Repeat::Safe, || async {
                let query = query_as::<_, LoginRow>(
                    "SELECT l.id AS login_id, l.current_hash, l.previous_hash, l.rotated_at,
                         l.successor, l.created_at AS login_created_at, l.last_used_at,
                         l.expires_at, l.revoked_at, u.id, u.email, u.display_name, u.role,
                         u.suspended_at, u.created_at, u.updated_at
                     FROM logins l JOIN users u ON u.id = l.user_id
                     WHERE l.user_id = $1 AND l.revoked_at IS NULL AND l.expires_at > $2
                     ORDER BY l.last_used_at DESC, l.id DESC LIMIT $3",
                );
                let query = query.bind(user.0).bind(Time(now)).bind(limit(most));
                self.primary.session().await?.list(query).await
            })
            .await?;
        rows.into_iter().map(|row| <(Login, User)>::try_from(row).map(|(login, _)| login)).collect()
    }

    async fn revoke_logins(
        &self,
        user: UserId,
        except: Option<LoginId>,
        now: Timestamp,
        since: Timestamp,
    ) -> Result<Vec<LoginId>, StoreError> {
        let except = except.map(|login| login.0);
        let ended: Vec<(Uuid,)> = self
            .primary
            .run(Repeat::Safe, || async {
                let mut session = self.primary.session().await?;
                let revoke = query(
                    "UPDATE logins SET revoked_at = $3
                     WHERE user_id = $1 AND revoked_at IS NULL AND ($2::uuid IS NULL OR id <> $2)",
                );
                session.execute(revoke.bind(user.0).bind(except).bind(Time(now))).await?;
                let list = query_as(
                    "SELECT id FROM logins
                     WHERE user_id = $1 AND revoked_at >= $3 AND ($2::uuid IS NULL OR id <> $2)",
                );
                session.list(list.bind(user.0).bind(except).bind(Time(since))).await
            })
            .await?;
        Ok(ended.into_iter().map(|(login,)| LoginId(login)).collect())
    }

    async fn purge_logins(&self, before: Timestamp, most: usize) -> Result<u64, StoreError> {
        // Replicas purge at the same time: each takes what no other has taken.
        let statement = || {
            query(
                "DELETE FROM logins WHERE id IN
                     (SELECT id FROM logins WHERE expires_at < $1 ORDER BY expires_at LIMIT $2
                      FOR UPDATE SKIP LOCKED)",
            )
            .bind(Time(before))
            .bind(limit(most))
        };
        self.primary.execute(Repeat::Safe, statement).await
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.primary.probe().await
    }
}
