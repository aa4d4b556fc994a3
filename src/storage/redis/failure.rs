//! What can go wrong with Redis.

use std::time::Duration;

/// Why Redis did not do what was asked. Every one of them speaks against Redis, not against the request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// Not connected, or no answer in time. What was asked may or may not have happened.
    #[error("redis is away: {0}")]
    Away(String),
    /// Redis answered, but not with what was asked for: it is full, read-only, loading, of another version.
    #[error("redis refuses: {0}")]
    Refused(String),
}

impl Failure {
    pub(super) fn timeout(after: Duration) -> Self {
        Failure::Away(format!("no answer within {after:?}"))
    }

    /// An answer of a shape that this version does not know.
    pub(super) fn unexpected(answer: impl std::fmt::Debug) -> Self {
        let mut shown = format!("unexpected answer {answer:?}");
        shown.truncate(shown.floor_char_boundary(200));
        Failure::Refused(shown)
    }
}

impl From<redis::RedisError> for Failure {
    fn from(error: redis::RedisError) -> Self {
        use redis::ErrorKind as Kind;
        let shown = error.to_string();
        match error.kind() {
            Kind::Io | Kind::ClusterConnectionNotFound | Kind::Client => Failure::Away(shown),
            _ => Failure::Refused(shown),
        }
    }
}

impl From<redis::ParsingError> for Failure {
    fn from(error: redis::ParsingError) -> Self {
        Failure::Refused(error.to_string())
    }
}

/// Why a replica cannot start with the Redis it was given; one line for the person who starts it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("bad redis.url: {0}")]
    Url(String),
    #[error("{servers} cannot be reached: {cause}")]
    Unreachable { servers: String, cause: String },
    #[error("{servers} has version {found}, but at least {wanted} is needed")]
    TooOld { servers: String, found: String, wanted: &'static str },
    #[error("{servers} is {found}, but redis.url names {wanted}")]
    WrongKind { servers: String, found: &'static str, wanted: &'static str },
}
