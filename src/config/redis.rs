//! Where Redis is.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The Redis that the replicas share: event logs, leases and the bus between replicas.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// One server, or a cluster (see [`Servers::parse`]). Absent: the embedded stores stand in. May hold a password.
    pub url: Option<SecretString>,
    /// What every key and channel begins with, so that several deployments can share a server.
    pub prefix: String,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Longest wait for an answer, reconnecting included.
    #[serde(with = "humantime_serde")]
    pub response_timeout: Duration,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            prefix: "whatif".into(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
        }
    }
}

impl Redis {
    /// The configured servers, if any.
    ///
    /// # Errors
    /// As [`Servers::parse`].
    pub fn servers(&self) -> Result<Option<Servers>, InvalidUrl> {
        self.url.as_ref().map(|url| Servers::parse(url.expose_secret())).transpose()
    }
}

/// A text that names no Redis server. Says why without repeating it, for it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(&'static str);

/// The addresses in a Redis URL.
#[derive(Clone, PartialEq, Eq)]
pub struct Servers {
    pub is_cluster: bool,
    /// At least one; `redis://…`, `rediss://…` (TLS), or `unix://…` for a single server.
    pub nodes: Vec<String>,
}

impl Servers {
    /// `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, `unix:///path` for a socket: one server.
    ///
    /// A cluster is meant by `redis+cluster://` or `rediss+cluster://`, or by several nodes with commas between; a
    /// node without a scheme takes the first one's scheme, user and password.
    ///
    /// # Errors
    /// [`InvalidUrl`] says what is wrong with it.
    pub fn parse(url: &str) -> Result<Self, InvalidUrl> {
        let mut parts = url.split(',').map(str::trim);
        let first = parts.next().unwrap_or_default();
        let (scheme, rest) = first.split_once("://").ok_or(InvalidUrl("has no scheme"))?;
        let (scheme, is_cluster) = match scheme.strip_suffix("+cluster") {
            Some(plain @ ("redis" | "rediss")) => (plain, true),
            _ => (scheme, false),
        };
        if !matches!(scheme, "redis" | "rediss" | "unix") {
            return Err(InvalidUrl("must begin with redis://, rediss:// or unix://"));
        }
        if rest.is_empty() {
            return Err(InvalidUrl("names no host"));
        }
        let login = rest.rsplit_once('@').map_or(String::new(), |(login, _)| format!("{login}@"));
        let mut nodes = vec![format!("{scheme}://{rest}")];
        for part in parts {
            nodes.push(match part.split_once("://") {
                _ if part.is_empty() => return Err(InvalidUrl("has an empty node in its list")),
                Some((other, node)) if other.trim_end_matches("+cluster") == scheme => {
                    format!("{scheme}://{node}")
                }
                Some(_) => return Err(InvalidUrl("mixes schemes")),
                None => format!("{scheme}://{login}{part}"),
            });
        }
        let is_cluster = is_cluster || nodes.len() > 1;
        if is_cluster && scheme == "unix" {
            return Err(InvalidUrl("a cluster is not reached by a socket file"));
        }
        Ok(Self { is_cluster, nodes })
    }
}

/// Without users and passwords.
impl std::fmt::Display for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_cluster { "Redis cluster at " } else { "Redis at " })?;
        for (index, node) in self.nodes.iter().enumerate() {
            let address = node.split_once("://").map_or(&**node, |(_, rest)| rest);
            let address = address.rsplit_once('@').map_or(address, |(_, host)| host);
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", address.split('?').next().unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_and_clusters() {
        let cases: [(&str, bool, &[&str]); 8] = [
            ("redis://h", false, &["redis://h"]),
            ("rediss://u:p@h:1/2", false, &["rediss://u:p@h:1/2"]),
            ("unix:///run/redis.sock", false, &["unix:///run/redis.sock"]),
            ("redis+cluster://h:1", true, &["redis://h:1"]),
            ("rediss+cluster://:p@h:1,g:2", true, &["rediss://:p@h:1", "rediss://:p@g:2"]),
            ("redis://a:1, b:2,c", true, &["redis://a:1", "redis://b:2", "redis://c"]),
            ("redis://a:1,redis://b:2", true, &["redis://a:1", "redis://b:2"]),
            ("redis://u:p@a,redis://u:p@b", true, &["redis://u:p@a", "redis://u:p@b"]),
        ];
        for (url, is_cluster, nodes) in cases {
            let servers = Servers::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(
                (servers.is_cluster, servers.nodes),
                (is_cluster, nodes.iter().map(|node| (*node).to_owned()).collect()),
                "{url}"
            );
        }
        for bad in [
            "",
            "h:6379",
            "http://h",
            "redis://",
            "redis://a,,b",
            "redis://a,rediss://b",
            "unix://a,b",
        ] {
            assert!(Servers::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for url in ["redis://u:sec@ret@h:1,g:2", "redis+cluster://:secret@h:1,g:2"] {
            let shown = Servers::parse(url).unwrap().to_string();
            assert_eq!(shown, "Redis cluster at h:1, g:2");
        }
    }
}
