//! Accounts in `users.db`.

use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteSynchronous;

use super::{Database, digest, limit, micros, time, uuid};
use crate::domain::ids::UserId;
use crate::domain::user::{EmailKey, LoginId, Role, User};
use crate::storage::StoreError;
use crate::storage::user::{
    Account, Credential, Login, PasswordScheme, Rotated, Rotation, TokenHash, UserStore,
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite/users");

#[derive(Debug, Clone)]
pub struct SqliteUserStore {
    database: Database,
}

impl SqliteUserStore {
    /// Opens `<folder>/users.db`, made if missing.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Unavailable`], both naming the file.
    pub async fn open(folder: &Path) -> Result<Self, StoreError> {
        // Accounts are written rarely and must survive a power cut.
        let synchronous = SqliteSynchronous::Full;
        let file = folder.join("users.db");
        Ok(Self { database: Database::open(&file, synchronous, &MIGRATIONS).await? })
    }

    /// Finishes what runs and closes the file. Further calls fail.
    pub async fn close(&self) {
        self.database.close().await;
    }

    #[cfg(test)]
    pub(super) fn database(&self) -> &Database {
        &self.database
    }
}

#[derive(sqlx::FromRow)]
struct UserRow {
    id: Vec<u8>,
    email: String,
    display_name: String,
    role: String,
    suspended_at: Option<i64>,
    created_at: i64,
    updated_at: i64,
}

impl TryFrom<UserRow> for User {
    type Error = StoreError;

    fn try_from(row: UserRow) -> Result<Self, StoreError> {
        let role = Role::parse(&row.role)
            .ok_or_else(|| StoreError::Corrupt("users.role is not a role".into()))?;
        Ok(User {
            id: UserId(uuid(&row.id, "users.id")?),
            email: row.email,
            display_name: row.display_name,
            role,
            suspended_at: optional_time(row.suspended_at, "users.suspended_at")?,
            created_at: time(row.created_at, "users.created_at")?,
            updated_at: time(row.updated_at, "users.updated_at")?,
        })
    }
}

#[derive(sqlx::FromRow)]
struct AccountRow {
    #[sqlx(flatten)]
    user: UserRow,
    scheme: Option<i64>,
    hash: Option<String>,
}

impl TryFrom<AccountRow> for Account {
    type Error = StoreError;

    fn try_from(row: AccountRow) -> Result<Self, StoreError> {
        let credential = match (row.scheme, row.hash) {
            (Some(number), Some(hash)) => {
                let scheme = PasswordScheme::from_number(number).ok_or_else(|| {
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
    login_id: Vec<u8>,
    current_hash: Vec<u8>,
    previous_hash: Option<Vec<u8>>,
    rotated_at: Option<i64>,
    successor: Option<Vec<u8>>,
    login_created_at: i64,
    last_used_at: i64,
    expires_at: i64,
    revoked_at: Option<i64>,
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
                at: time(at, "logins.rotated_at")?,
                successor,
            }),
            _ => None,
        };
        let login = Login {
            id: LoginId(uuid(&row.login_id, "logins.id")?),
            user: user.id,
            current: TokenHash(digest(&row.current_hash, "logins.current_hash")?),
            previous,
            created_at: time(row.login_created_at, "logins.created_at")?,
            last_used_at: time(row.last_used_at, "logins.last_used_at")?,
            expires_at: time(row.expires_at, "logins.expires_at")?,
            revoked_at: optional_time(row.revoked_at, "logins.revoked_at")?,
        };
        Ok((login, user))
    }
}

fn optional_time(micros: Option<i64>, column: &str) -> Result<Option<Timestamp>, StoreError> {
    micros.map(|micros| time(micros, column)).transpose()
}

fn id(id: &uuid::Uuid) -> &[u8] {
    id.as_bytes().as_slice()
}

const PUT_CREDENTIAL: &str = "
    INSERT INTO credentials (user_id, scheme, hash, updated_at)
    SELECT id, ?2, ?3, ?4 FROM users WHERE id = ?1
    ON CONFLICT (user_id) DO UPDATE
    SET scheme = excluded.scheme, hash = excluded.hash, updated_at = excluded.updated_at";

#[async_trait]
impl UserStore for SqliteUserStore {
    async fn create_user(
        &self,
        user: &User,
        credential: Option<&Credential>,
    ) -> Result<(), StoreError> {
        let operation = async {
            let mut transaction = self.database.pool.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query(
                "INSERT INTO users (id, email, email_key, display_name, role, suspended_at,
                     created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )
            .bind(id(&user.id.0))
            .bind(&user.email)
            .bind(EmailKey::new(&user.email).as_str())
            .bind(&user.display_name)
            .bind(user.role.as_str())
            .bind(user.suspended_at.map(micros))
            .bind(micros(user.created_at))
            .bind(micros(user.updated_at))
            .execute(&mut *transaction)
            .await?;
            if let Some(credential) = credential {
                sqlx::query(PUT_CREDENTIAL)
                    .bind(id(&user.id.0))
                    .bind(credential.scheme.number())
                    .bind(&credential.hash)
                    .bind(micros(user.created_at))
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await
        };
        self.database.run(operation).await
    }

    async fn find_user(&self, user: UserId) -> Result<Option<User>, StoreError> {
        let query = sqlx::query_as::<_, UserRow>(
            "SELECT id, email, display_name, role, suspended_at, created_at, updated_at
             FROM users WHERE id = ?1",
        )
        .bind(id(&user.0));
        let row = self.database.run(query.fetch_optional(&self.database.pool)).await?;
        row.map(User::try_from).transpose()
    }

    async fn find_account(&self, email: &EmailKey) -> Result<Option<Account>, StoreError> {
        let query = sqlx::query_as::<_, AccountRow>(
            "SELECT u.id, u.email, u.display_name, u.role, u.suspended_at, u.created_at,
                 u.updated_at, c.scheme, c.hash
             FROM users u LEFT JOIN credentials c ON c.user_id = u.id
             WHERE u.email_key = ?1",
        )
        .bind(email.as_str());
        let row = self.database.run(query.fetch_optional(&self.database.pool)).await?;
        row.map(Account::try_from).transpose()
    }

    async fn set_credential(
        &self,
        user: UserId,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query(PUT_CREDENTIAL)
            .bind(id(&user.0))
            .bind(credential.scheme.number())
            .bind(&credential.hash)
            .bind(micros(now));
        let done = self.database.run(query.execute(&self.database.pool)).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn set_suspension(
        &self,
        user: UserId,
        since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let query =
            sqlx::query("UPDATE users SET suspended_at = ?2, updated_at = ?3 WHERE id = ?1")
                .bind(id(&user.0))
                .bind(since.map(micros))
                .bind(micros(now));
        let done = self.database.run(query.execute(&self.database.pool)).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn create_login(&self, login: &Login) -> Result<(), StoreError> {
        let previous = login.previous.as_ref();
        let query = sqlx::query(
            "INSERT INTO logins (id, user_id, current_hash, previous_hash, rotated_at, successor,
                 created_at, last_used_at, expires_at, revoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .bind(id(&login.id.0))
        .bind(id(&login.user.0))
        .bind(login.current.0.as_slice())
        .bind(previous.map(|previous| previous.hash.0.as_slice()))
        .bind(previous.map(|previous| micros(previous.at)))
        .bind(previous.map(|previous| previous.successor.as_slice()))
        .bind(micros(login.created_at))
        .bind(micros(login.last_used_at))
        .bind(micros(login.expires_at))
        .bind(login.revoked_at.map(micros));
        self.database.run(query.execute(&self.database.pool)).await.map(|_| ())
    }

    async fn find_login(&self, login: LoginId) -> Result<Option<(Login, User)>, StoreError> {
        let query = sqlx::query_as::<_, LoginRow>(
            "SELECT l.id AS login_id, l.current_hash, l.previous_hash, l.rotated_at, l.successor,
                 l.created_at AS login_created_at, l.last_used_at, l.expires_at, l.revoked_at,
                 u.id, u.email, u.display_name, u.role, u.suspended_at, u.created_at, u.updated_at
             FROM logins l JOIN users u ON u.id = l.user_id
             WHERE l.id = ?1",
        )
        .bind(id(&login.0));
        let row = self.database.run(query.fetch_optional(&self.database.pool)).await?;
        row.map(<(Login, User)>::try_from).transpose()
    }

    async fn rotate_login(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        let query = sqlx::query(
            "UPDATE logins
             SET current_hash = ?3, previous_hash = ?2, rotated_at = ?4, successor = ?5,
                 last_used_at = ?4, expires_at = ?6
             WHERE id = ?1 AND current_hash = ?2 AND revoked_at IS NULL",
        )
        .bind(id(&rotation.login.0))
        .bind(rotation.from.hash.0.as_slice())
        .bind(rotation.to.0.as_slice())
        .bind(micros(rotation.from.at))
        .bind(rotation.from.successor.as_slice())
        .bind(micros(rotation.expires_at));
        let done = self.database.run(query.execute(&self.database.pool)).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn revoke_login(&self, login: LoginId, now: Timestamp) -> Result<bool, StoreError> {
        let query =
            sqlx::query("UPDATE logins SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")
                .bind(id(&login.0))
                .bind(micros(now));
        let done = self.database.run(query.execute(&self.database.pool)).await?;
        Ok(done.rows_affected() > 0)
    }

    async fn list_logins(
        &self,
        user: UserId,
        now: Timestamp,
        most: usize,
    ) -> Result<Vec<Login>, StoreError> {
        let query = sqlx::query_as::<_, LoginRow>(
            "SELECT l.id AS login_id, l.current_hash, l.previous_hash, l.rotated_at, l.successor,
                 l.created_at AS login_created_at, l.last_used_at, l.expires_at, l.revoked_at,
                 u.id, u.email, u.display_name, u.role, u.suspended_at, u.created_at, u.updated_at
             FROM logins l JOIN users u ON u.id = l.user_id
             WHERE l.user_id = ?1 AND l.revoked_at IS NULL AND l.expires_at > ?2
             ORDER BY l.last_used_at DESC, l.id DESC LIMIT ?3",
        )
        .bind(id(&user.0))
        .bind(micros(now))
        .bind(limit(most));
        let rows = self.database.run(query.fetch_all(&self.database.pool)).await?;
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
        let revoke = sqlx::query(
            "UPDATE logins SET revoked_at = ?3
             WHERE user_id = ?1 AND revoked_at IS NULL AND (?2 IS NULL OR id <> ?2)",
        )
        .bind(id(&user.0))
        .bind(except.as_ref().map(id))
        .bind(micros(now));
        let list = sqlx::query_scalar::<_, Vec<u8>>(
            "SELECT id FROM logins
             WHERE user_id = ?1 AND revoked_at >= ?3 AND (?2 IS NULL OR id <> ?2)",
        )
        .bind(id(&user.0))
        .bind(except.as_ref().map(id))
        .bind(micros(since));
        let operation = async {
            revoke.execute(&self.database.pool).await?;
            list.fetch_all(&self.database.pool).await
        };
        let ended = self.database.run(operation).await?;
        ended.iter().map(|login| Ok(LoginId(uuid(login, "logins.id")?))).collect()
    }

    async fn purge_logins(&self, before: Timestamp, most: usize) -> Result<u64, StoreError> {
        let query = sqlx::query(
            "DELETE FROM logins WHERE id IN
                 (SELECT id FROM logins WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
        )
        .bind(micros(before))
        .bind(limit(most));
        let done = self.database.run(query.execute(&self.database.pool)).await?;
        Ok(done.rows_affected())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.database.probe().await
    }
}
