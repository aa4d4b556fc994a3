//! Rules that one key's type cannot express.

use secrecy::ExposeSecret;

use super::database::parse_url;
use super::{AppEnv, Config, ConfigError, chat, shared};

/// HS256 wants a key at least as long as its output (RFC 7518, 3.2).
const MIN_SECRET_BYTES: usize = 32;

pub(super) fn rules(config: &Config) -> Result<(), ConfigError> {
    let broken = |key, message: &str| Err(ConfigError::Rule { key, message: message.into() });
    if let Some(secret) = &config.auth.jwt_secret
        && secret.expose_secret().len() < MIN_SECRET_BYTES
    {
        return broken("auth.jwt_secret", "must have at least 32 bytes");
    }
    if config.sessions.lease_renew * 2 > config.sessions.lease_ttl {
        return broken("sessions.lease_renew", "must be at most half of sessions.lease_ttl");
    }
    if config.server.drain_delay >= config.server.drain_timeout {
        return broken("server.drain_delay", "must be shorter than server.drain_timeout");
    }
    if let Some(key) = config.limits.zero() {
        return broken(key, "must be at least 1 (limits.enabled turns them off)");
    }
    if let Some(key) = config.budget.not_money() {
        return broken(key, "must be an amount of at least 0");
    }
    if config.limits.store_timeout.is_zero() {
        return broken("limits.store_timeout", "must not be zero");
    }
    if let Some(key) = shared::zero(&config.logins, &config.cache) {
        return broken(key, "must not be zero");
    }
    if config.sessions.shards == 0 {
        return broken("sessions.shards", "must be at least 1");
    }
    let sessions = &config.sessions;
    for (key, zero) in [
        ("sessions.speculate_choices", sessions.speculate_choices == 0),
        ("sessions.speculate_words", sessions.speculate_words == 0),
        ("sessions.speculate_streams", sessions.speculate_streams == 0),
        ("sessions.speculate_for", sessions.speculate_for.is_zero()),
    ] {
        if zero {
            return broken(key, "must be above 0 (sessions.speculate turns it off)");
        }
    }
    if config.auth.hashing_workers == 0 {
        return broken("auth.hashing_workers", "must be at least 1");
    }
    config.dynamodb.check()?;
    let ratio = config.circuits.failure_ratio;
    if !(ratio > 0.0 && ratio <= 1.0) {
        return broken("circuits.failure_ratio", "must be above 0 and at most 1");
    }
    config.providers.check()?;
    if let Some((key, message)) = config.moderation.broken() {
        return broken(key, message);
    }
    if let Some((key, message)) = chat::broken(&config.chat, &config.search) {
        return broken(key, &message);
    }
    if let Err(error) = config.redis.servers() {
        return broken("redis.url", &error.to_string());
    }
    if config.redis.connect_timeout.is_zero() || config.redis.response_timeout.is_zero() {
        return broken("redis.response_timeout", "must be above 0, as redis.connect_timeout");
    }
    if config.redis.prefix.is_empty() || config.redis.prefix.contains(['{', '}', '*']) {
        return broken("redis.prefix", "must not be empty nor contain braces or stars");
    }
    if !config.sockets.ping_interval.lt(&config.sockets.pong_timeout) {
        return broken("sockets.ping_interval", "must be shorter than sockets.pong_timeout");
    }
    database(config)?;
    if config.env == AppEnv::Production {
        if config.auth.jwt_secret.is_none() {
            return broken("auth.jwt_secret", "must be set in production (JWT_SECRET)");
        }
        if config.server.origins.iter().any(|origin| origin == "*") {
            return broken("server.origins", "must name the allowed origins in production");
        }
    }
    Ok(())
}

fn database(config: &Config) -> Result<(), ConfigError> {
    let broken = |key, message: String| Err(ConfigError::Rule { key, message });
    let database = &config.database;
    for (key, url) in [("database.url", &database.url), ("database.read_url", &database.read_url)] {
        if let Some(Err(wrong)) = url.as_ref().map(parse_url) {
            return broken(key, wrong);
        }
    }
    if database.url.is_none() {
        return match database.read_url {
            Some(_) => broken("database.read_url", "needs database.url (DATABASE_URL)".into()),
            None => Ok(()),
        };
    }
    // A secret made here would be another one on every replica: none could read another's tokens.
    if config.auth.jwt_secret.is_none() {
        let message =
            "must be set when database.url is (JWT_SECRET): replicas share users, so they share it";
        return broken("auth.jwt_secret", message.into());
    }
    if database.pool_size == 0 {
        return broken("database.pool_size", "must be at least 1".into());
    }
    if database.pool_min > database.pool_size {
        return broken("database.pool_min", "must be at most database.pool_size".into());
    }
    for (key, limit) in [
        ("database.timeout", database.timeout),
        ("database.acquire_timeout", database.acquire_timeout),
        ("database.statement_timeout", database.statement_timeout),
        ("database.lock_timeout", database.lock_timeout),
    ] {
        // Zero means "no limit" to the server, and less than a millisecond is zero to it.
        if limit.as_millis() == 0 {
            return broken(key, "must be at least 1ms".into());
        }
    }
    Ok(())
}
