//! `[database]`: a PostgreSQL server for accounts and kept answers, in the place of files in the data directory.

use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://user:password@host:5432/name?sslmode=verify-full`. Absent: SQLite in the data directory.
    pub url: Option<SecretString>,
    /// A streaming replica of it, or a name that leads to several.
    pub read_url: Option<SecretString>,
    /// Connections of this replica, to each of the two.
    pub pool_size: u32,
    /// Connections kept open while nothing happens.
    pub pool_min: u32,
    /// Longest wait for the database at the start; no other limit is longer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Longest wait for a connection.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// Longest that the server works on a statement.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// Longest that a statement waits for a lock of another transaction.
    #[serde(with = "humantime_serde")]
    pub lock_timeout: Duration,
    /// An unused connection is closed after this.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// Every connection is closed after this.
    #[serde(with = "humantime_serde")]
    pub max_lifetime: Duration,
    /// How old an answer of `read_url` may be with regard to writes of other replicas.
    #[serde(with = "humantime_serde")]
    pub staleness: Duration,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: None,
            read_url: None,
            pool_size: 20,
            pool_min: 1,
            timeout: Duration::from_secs(30),
            acquire_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(3),
            lock_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(10 * 60),
            max_lifetime: Duration::from_secs(30 * 60),
            staleness: Duration::from_secs(1),
        }
    }
}

/// What may stand behind the `?` of a URL. Others would be passed over in silence, and a mistyped `sslmode` with them.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "statement-cache-capacity",
];

/// Reads a URL.
///
/// # Errors
/// What is wrong with it, without any part of it that may be secret.
pub fn parse_url(url: &SecretString) -> Result<PgConnectOptions, String> {
    let wrong = || "is not of the form postgres://user:password@host:5432/name".to_owned();
    let parsed = Url::parse(url.expose_secret()).map_err(|_| wrong())?;
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return Err(wrong());
    }
    for (name, _) in parsed.query_pairs() {
        if !PARAMETERS.contains(&&*name) {
            return Err(format!("has a parameter `{name}` that means nothing here"));
        }
    }
    parsed.as_str().parse().map_err(|_| wrong())
}

/// `host:port/name`: what of a URL may be shown.
pub fn place(server: &PgConnectOptions) -> String {
    let name = server.get_database().unwrap_or_else(|| server.get_username());
    match server.get_socket() {
        Some(socket) => format!("{}:{}/{name}", socket.display(), server.get_port()),
        None => format!("{}:{}/{name}", server.get_host(), server.get_port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_is_never_its_password() {
        for (url, shown) in [
            (
                "postgres://ada:hush@db.example:6543/whatif?sslmode=verify-full",
                "db.example:6543/whatif",
            ),
            ("postgresql://ada@db.example/whatif?password=hush", "db.example:5432/whatif"),
            ("postgres://ada:hush@db.example", "db.example:5432/ada"),
            ("postgres:///whatif?host=/run/postgresql", "/run/postgresql:5432/whatif"),
        ] {
            assert_eq!(place(&parse_url(&url.into()).unwrap()), shown);
        }
        for (url, said) in [
            ("hush", "postgres://user"),
            ("mysql://ada:hush@db/whatif", "postgres://user"),
            ("postgres://ada:hush@db:many/whatif", "postgres://user"),
            ("postgres://ada:hush@db/whatif?sslmode=hush", "postgres://user"),
            ("postgres://ada:hush@db/whatif?slmode=hush", "slmode"),
        ] {
            let error = parse_url(&url.into()).unwrap_err();
            assert!(error.contains(said) && !error.contains("hush"), "{url}: {error}");
        }
    }
}
