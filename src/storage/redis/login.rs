//! Login sessions that all replicas share: a hash per login, and a sorted set per user that names them.
//!
//! Both carry the user as their hash tag, so they are on one node and one script changes both. Each ends by itself: a
//! hash with its login, the set with the last of them. The set is scored by the moment, on Redis's own clock, at which
//! a login ends.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Failure, Redis, Script};
use crate::domain::ids::UserId;
use crate::domain::login::{Client, Device, LoginSession};
use crate::domain::user::LoginId;
use crate::storage::StoreError;
use crate::storage::login::{FOR_EVER, LoginStore, MAX_OF_USER};

/// Set, hash; milliseconds to keep, the most of a user, login, then its use, device, address, beginning and end.
static RECORD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        local keep = tonumber(ARGV[1])
        local used = redis.call('HGET', KEYS[2], 'used')
        if not (used and tonumber(used) and tonumber(used) > tonumber(ARGV[4])) then
            used = ARGV[4]
        end
        redis.call('HSET', KEYS[2], 'used', used, 'device', ARGV[5], 'address', ARGV[6],
            'created', ARGV[7], 'expires', ARGV[8])
        redis.call('PEXPIRE', KEYS[2], ARGV[1])
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
        redis.call('ZADD', KEYS[1], string.format('%.0f', now + keep), ARGV[3])
        redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[2]))
        if redis.call('PTTL', KEYS[1]) < keep then
            redis.call('PEXPIRE', KEYS[1], ARGV[1])
        end
        ",
    )
});

/// Hash; the use -> whether there is such a login.
static TOUCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local used = redis.call('HGET', KEYS[1], 'used')
        if not used then
            return 0
        end
        if not (tonumber(used) and tonumber(used) >= tonumber(ARGV[1])) then
            redis.call('HSET', KEYS[1], 'used', ARGV[1])
        end
        return 1
        ",
    )
});

/// Set -> its members that have not ended.
static NAMES: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local now = time[1] * 1000 + math.floor(time[2] / 1000)
        return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')
        ",
    )
});

/// Hashes -> what is in each. A hash that is gone has nothing in it.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local found = {}
        for place, key in ipairs(KEYS) do
            found[place] = redis.call('HMGET', key, 'used', 'device', 'address', 'created', 'expires')
        end
        return found
        ",
    )
});

/// Set, hashes; their logins, in the same order.
static REMOVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        for place, login in ipairs(ARGV) do
            redis.call('DEL', KEYS[place + 1])
            redis.call('ZREM', KEYS[1], login)
        end
        ",
    )
});

/// One field of a hash; what is written is UTF-8, but what is read is not taken on trust.
type Field = Option<Vec<u8>>;

pub struct RedisLogins {
    redis: Redis,
}

impl RedisLogins {
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn set(&self, user: UserId) -> String {
        self.redis.key(format_args!("logins:{{{user}}}"))
    }

    fn hash(&self, user: UserId, LoginId(login): LoginId) -> String {
        self.redis.key(format_args!("login:{{{user}}}:{login}"))
    }

    async fn names(&self, user: UserId) -> Result<Vec<LoginId>, StoreError> {
        let names: Vec<String> =
            NAMES.on(&[self.set(user)]).run(&self.redis).await.map_err(unavailable)?;
        Ok(names.iter().filter_map(|name| name.parse().ok().map(LoginId)).collect())
    }

    async fn forget(&self, user: UserId, logins: &[LoginId]) -> Result<(), StoreError> {
        let hashes = logins.iter().map(|login| self.hash(user, *login));
        let keys: Vec<_> = std::iter::once(self.set(user)).chain(hashes).collect();
        let call = logins
            .iter()
            .fold(REMOVE.on(&keys), |call, LoginId(login)| call.arg(login.to_string()));
        call.run(&self.redis).await.map_err(unavailable)
    }
}

#[async_trait]
impl LoginStore for RedisLogins {
    async fn record(&self, login: &LoginSession, keep: Duration) -> Result<(), StoreError> {
        let Client { device, address } = &login.client;
        let keep = keep.min(FOR_EVER).as_millis().max(1) as u64;
        let call = RECORD
            .on(&[self.set(login.user), self.hash(login.user, login.id)])
            .arg(keep)
            .arg(MAX_OF_USER)
            .arg(login.id.0.to_string())
            .arg(login.last_used_at.as_microsecond())
            .arg(device.as_ref().map_or("", Device::as_str))
            .arg(address.map(|address| address.to_string()).unwrap_or_default())
            .arg(login.created_at.as_microsecond())
            .arg(login.expires_at.as_microsecond());
        call.run(&self.redis).await.map_err(unavailable)
    }

    async fn touch(&self, user: UserId, login: LoginId, at: Timestamp) -> Result<bool, StoreError> {
        let call = TOUCH.on(&[self.hash(user, login)]).arg(at.as_microsecond());
        call.run(&self.redis).await.map_err(unavailable)
    }

    async fn list_of_user(&self, user: UserId) -> Result<Vec<LoginSession>, StoreError> {
        let names = self.names(user).await?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<_> = names.iter().map(|login| self.hash(user, *login)).collect();
        let found: Vec<Vec<Field>> =
            READ.on(&hashes).run(&self.redis).await.map_err(unavailable)?;
        Ok(names.into_iter().zip(found).filter_map(|(id, hash)| parse(user, id, &hash)).collect())
    }

    async fn remove(&self, user: UserId, login: LoginId) -> Result<(), StoreError> {
        self.forget(user, &[login]).await
    }

    async fn remove_of_user(
        &self,
        user: UserId,
        except: Option<LoginId>,
    ) -> Result<(), StoreError> {
        let mut names = self.names(user).await?;
        names.retain(|login| Some(*login) != except);
        self.forget(user, &names).await
    }
}

fn unavailable(failure: Failure) -> StoreError {
    StoreError::Unavailable(failure.to_string())
}

/// `None` for one that is gone, and for one that cannot be read: the login is none the worse for it.
fn parse(user: UserId, id: LoginId, hash: &[Field]) -> Option<LoginSession> {
    let [Some(used), Some(device), Some(address), Some(created), Some(expires)] = hash else {
        return None;
    };
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let time = |field: &[u8]| Timestamp::from_microsecond(text(field).parse().ok()?).ok();
    let (Some(last_used_at), Some(created_at), Some(expires_at)) =
        (time(used), time(created), time(expires))
    else {
        tracing::warn!(login = %id.0, "not a login session that is known here");
        return None;
    };
    let client = Client { device: Device::new(&text(device)), address: text(address).parse().ok() };
    Some(LoginSession { id, user, client, created_at, last_used_at, expires_at })
}
