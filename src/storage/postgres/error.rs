//! What a failure of PostgreSQL means: for the caller, for the connection it came on, and for trying again.

use sqlx::Error;

use super::StoreError;

/// What may be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rolled back because of others; the same operation may well succeed now.
    Contended,
    /// The connection is gone, or leads to a server that does not write. What was under way may have happened.
    Lost,
    /// No use in trying again at once.
    Other,
}

// Codes of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html
const UNIQUE: &str = "23505";
const FOREIGN_KEY: &str = "23503";
const READ_ONLY: &str = "25006";
const IDLE_IN_TRANSACTION: &str = "25P03";
const SERIALIZATION: &str = "40001";
const DEADLOCK: &str = "40P01";
const TOO_MANY_CONNECTIONS: &str = "53300";
const DISK_FULL: &str = "53100";
const OUT_OF_MEMORY: &str = "53200";
const LOCK_TIMEOUT: &str = "55P03";
const CANCELED: &str = "57014";
const STARTING_OR_STOPPING: &str = "57P03";
/// The result of a prepared statement has other columns than when it was prepared.
const CACHED_PLAN: &str = "0A000";

pub(super) fn kind(error: &Error) -> Kind {
    match error {
        Error::Database(_) => match code(error).as_str() {
            SERIALIZATION | DEADLOCK => Kind::Contended,
            READ_ONLY | CACHED_PLAN | IDLE_IN_TRANSACTION => Kind::Lost,
            // 57P01-57P05: the server ends the connection; 08…: the connection broke.
            code if code.starts_with("57P") || code.starts_with("08") => Kind::Lost,
            _ => Kind::Other,
        },
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => Kind::Lost,
        _ => Kind::Other,
    }
}

/// The SQLSTATE, or an empty text.
pub(super) fn code(error: &Error) -> String {
    let cause = error.as_database_error().and_then(|cause| cause.code());
    cause.map(std::borrow::Cow::into_owned).unwrap_or_default()
}

/// Whether waiting may help someone who connects: the server is starting, full, or cannot be reached for now.
pub(super) fn may_come_up(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Database(_) => {
            let code = code(error);
            code == TOO_MANY_CONNECTIONS || kind(error) == Kind::Lost
        }
        _ => false,
    }
}

pub(super) fn store_error(error: Error) -> StoreError {
    let unavailable = |what: &str| StoreError::Unavailable(format!("{what}: {error}"));
    match &error {
        Error::Database(_) => match code(&error).as_str() {
            UNIQUE => StoreError::Conflict("exists already"),
            FOREIGN_KEY => StoreError::Conflict("refers to something that is gone"),
            READ_ONLY => unavailable("the server is read-only, another one writes now"),
            SERIALIZATION | DEADLOCK => unavailable("too many at once want the same records"),
            TOO_MANY_CONNECTIONS => StoreError::Throttled {
                message: format!("the server takes no more connections: {error}"),
                retry_after: None,
            },
            DISK_FULL => unavailable("the server's disk is full"),
            OUT_OF_MEMORY => unavailable("the server is out of memory"),
            LOCK_TIMEOUT => unavailable("locked by another transaction for too long"),
            CANCELED => unavailable("a statement took too long"),
            STARTING_OR_STOPPING => unavailable("the server is starting or stopping"),
            CACHED_PLAN => unavailable("the schema has just changed"),
            code => match code.get(..2) {
                Some("08" | "57") => unavailable("the server ended the connection"),
                Some("28") => unavailable("the server refuses the login"),
                Some("3D") => unavailable("there is no such database"),
                // Not the server's state but ours: trying again, or staying away, changes nothing.
                Some("22" | "23") => StoreError::Corrupt(format!("not storable: {error}")),
                Some("42") => {
                    StoreError::Corrupt(format!("not the schema or the rights needed: {error}"))
                }
                _ => unavailable("database error"),
            },
        },
        Error::ColumnDecode { .. } | Error::Decode(_) | Error::ColumnNotFound(_) => {
            StoreError::Corrupt(error.to_string())
        }
        Error::Io(_) | Error::Protocol(_) => unavailable("the connection broke"),
        _ => StoreError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_broken_connection_is_lost_and_counts_against_the_server() {
        for cause in [
            Error::Io(io::ErrorKind::ConnectionReset.into()),
            Error::Protocol("unexpected message".into()),
        ] {
            assert_eq!(kind(&cause), Kind::Lost, "{cause}");
            assert!(store_error(cause).is_dependency_failure());
        }
        assert!(may_come_up(&Error::Io(io::ErrorKind::ConnectionRefused.into())));
    }

    #[test]
    fn what_cannot_be_read_counts_against_nobody() {
        let error = store_error(Error::Decode("not a time".into()));
        assert!(matches!(error, StoreError::Corrupt(_)) && !error.is_dependency_failure());
    }
}
