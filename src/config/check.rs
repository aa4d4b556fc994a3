//! Rules that one key's type cannot express.

use secrecy::ExposeSecret;

use super::{AppEnv, Config, ConfigError};

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
    if let Some(key) = config.limits.zero() {
        return broken(key, "must be at least 1 (limits.enabled turns them off)");
    }
    if config.limits.store_timeout.is_zero() {
        return broken("limits.store_timeout", "must not be zero");
    }
    if config.sessions.shards == 0 {
        return broken("sessions.shards", "must be at least 1");
    }
    if config.auth.hashing_workers == 0 {
        return broken("auth.hashing_workers", "must be at least 1");
    }
    let ratio = config.circuits.failure_ratio;
    if !(ratio > 0.0 && ratio <= 1.0) {
        return broken("circuits.failure_ratio", "must be above 0 and at most 1");
    }
    let pace = config.providers.storyteller.words_per_second;
    if pace.is_nan() || pace < 0.0 {
        return broken("providers.storyteller.words_per_second", "must not be negative");
    }
    if let Err(error) = config.redis.servers() {
        return broken("redis.url", &error.to_string());
    }
    if config.redis.prefix.is_empty() || config.redis.prefix.contains(['{', '}', '*']) {
        return broken("redis.prefix", "must not be empty nor contain braces or stars");
    }
    for name in &config.providers.text {
        if !matches!(name.as_str(), "openai" | "storyteller") {
            return broken("providers.text", &format!("unknown provider `{name}`"));
        }
    }
    if !config.sockets.ping_interval.lt(&config.sockets.pong_timeout) {
        return broken("sockets.ping_interval", "must be shorter than sockets.pong_timeout");
    }
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
