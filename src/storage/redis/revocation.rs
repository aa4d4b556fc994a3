//! Revocations that all replicas read: one sorted set, scored by the moment of publishing on Redis's own clock.
//!
//! Scores only rise, also when that clock is set back, so who reads on from the last score misses nothing.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Failure, Redis, Script};
use crate::domain::ids::UserId;
use crate::domain::user::LoginId;
use crate::storage::StoreError;
use crate::storage::revocation::{News, Position, Revocation, RevocationStore};

/// Set; member, what it takes the place of (or nothing), microseconds to keep.
static PUBLISH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local time = redis.call('TIME')
        local at = time[1] * 1000000 + time[2]
        local keep = tonumber(ARGV[3])
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', at - keep))
        local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
        if newest[2] and tonumber(newest[2]) >= at then
            at = tonumber(newest[2]) + 1
        end
        if ARGV[2] ~= '' then
            redis.call('ZREM', KEYS[1], ARGV[2])
        end
        redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
        redis.call('PEXPIRE', KEYS[1], math.ceil(keep / 1000))
        ",
    )
});

/// Set; the last score that was read -> members and scores in turn. A script, so that the answer has one shape in
/// every version of the protocol.
static READ: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES')",
    )
});

pub struct RedisRevocations {
    redis: Redis,
    key: String,
}

impl RedisRevocations {
    pub fn new(redis: Redis) -> Self {
        let key = redis.key("revocations");
        Self { redis, key }
    }
}

#[async_trait]
impl RevocationStore for RedisRevocations {
    async fn publish(&self, revocation: Revocation, keep: Duration) -> Result<(), StoreError> {
        let replaced = match revocation {
            Revocation::Ended(_) => String::new(),
            Revocation::Suspended(user) => member(Revocation::Restored(user)),
            Revocation::Restored(user) => member(Revocation::Suspended(user)),
        };
        let keep = u64::try_from(keep.as_micros()).unwrap_or(u64::MAX);
        let call = PUBLISH.on(&[&self.key]).arg(member(revocation)).arg(replaced).arg(keep);
        call.run(&self.redis).await.map_err(unavailable)
    }

    async fn since(&self, position: Position) -> Result<News, StoreError> {
        let call = READ.on(&[&self.key]).arg(position.0);
        let entries: Vec<String> = call.run(&self.redis).await.map_err(unavailable)?;
        let mut news = News { revocations: Vec::with_capacity(entries.len() / 2), position };
        for entry in entries.chunks_exact(2) {
            let [member, score] = entry else { continue };
            match parse(member) {
                Some(revocation) => news.revocations.push(revocation),
                // A newer version may have more to say; what it says otherwise still holds.
                None => tracing::warn!(member, "not a revocation that is known here"),
            }
            let score: u64 = score
                .parse()
                .map_err(|_| StoreError::Corrupt(format!("a revocation scored {score}")))?;
            news.position = news.position.max(Position(score));
        }
        Ok(news)
    }
}

fn unavailable(failure: Failure) -> StoreError {
    StoreError::Unavailable(failure.to_string())
}

fn member(revocation: Revocation) -> String {
    match revocation {
        Revocation::Ended(LoginId(login)) => format!("ended:{login}"),
        Revocation::Suspended(user) => format!("suspended:{user}"),
        Revocation::Restored(user) => format!("restored:{user}"),
    }
}

fn parse(member: &str) -> Option<Revocation> {
    let (kind, id) = member.split_once(':')?;
    let id: Uuid = id.parse().ok()?;
    match kind {
        "ended" => Some(Revocation::Ended(LoginId(id))),
        "suspended" => Some(Revocation::Suspended(UserId(id))),
        "restored" => Some(Revocation::Restored(UserId(id))),
        _ => None,
    }
}
