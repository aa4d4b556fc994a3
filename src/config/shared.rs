//! What replicas share beside stories and accounts: what is known of logins, and a cache.

use std::time::Duration;

use serde::Deserialize;

/// What is known of logins beside their credentials.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logins {
    /// How often this replica notes that a login is used.
    #[serde(with = "humantime_serde")]
    pub touch_every: Duration,
    /// Longest that who lists or ends logins waits for the store.
    #[serde(with = "humantime_serde")]
    pub store_timeout: Duration,
}

impl Default for Logins {
    fn default() -> Self {
        Self { touch_every: Duration::from_secs(60), store_timeout: Duration::from_millis(250) }
    }
}

/// What can be had again.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Memory of the one in this process, about.
    pub memory_bytes: usize,
    /// Longest wait for a shared one before it counts as a miss.
    #[serde(with = "humantime_serde")]
    pub store_timeout: Duration,
}

impl Default for Cache {
    fn default() -> Self {
        Self { memory_bytes: 32 * 1024 * 1024, store_timeout: Duration::from_millis(50) }
    }
}

/// The first key whose time is none.
pub(super) fn zero(logins: &Logins, cache: &Cache) -> Option<&'static str> {
    [
        ("logins.touch_every", logins.touch_every),
        ("logins.store_timeout", logins.store_timeout),
        ("cache.store_timeout", cache.store_timeout),
    ]
    .into_iter()
    .find_map(|(key, time)| time.is_zero().then_some(key))
}
