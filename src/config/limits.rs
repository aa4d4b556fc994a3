//! How often callers may ask, and which proxies are believed about who a caller is.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Rates are per minute; a minute's worth may come at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub enabled: bool,
    /// Requests of one user.
    pub per_user: u32,
    /// Requests from one address; an IPv6 /64 counts as one.
    pub per_address: u32,
    /// Of these, requests to `/auth`.
    pub auth_per_address: u32,
    /// Registrations and logins with one e-mail address from one address.
    pub auth_per_account: u32,
    /// Turns that one user begins, scenarios included.
    pub turns_per_user: u32,
    /// Longest wait for the store that replicas share, before this replica counts for itself.
    #[serde(with = "humantime_serde")]
    pub store_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            enabled: true,
            per_user: 1_000,
            per_address: 10_000,
            auth_per_address: 600,
            auth_per_account: 20,
            turns_per_user: 60,
            store_timeout: Duration::from_millis(50),
        }
    }
}

impl Limits {
    /// The first rate that allows nothing.
    pub(super) fn zero(&self) -> Option<&'static str> {
        [
            ("limits.per_user", self.per_user),
            ("limits.per_address", self.per_address),
            ("limits.auth_per_address", self.auth_per_address),
            ("limits.auth_per_account", self.auth_per_account),
            ("limits.turns_per_user", self.turns_per_user),
        ]
        .into_iter()
        .find_map(|(key, rate)| (rate == 0).then_some(key))
    }
}

/// A range of addresses, as `10.0.0.0/8` or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// IPv4 in its place within IPv6.
    first: u128,
    mask: u128,
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address and no network such as 10.0.0.0/8")]
pub struct InvalidNetwork(String);

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        bits(address) & self.mask == self.first
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .to_bits()
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let invalid = || InvalidNetwork(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.trim().parse().map_err(|_| invalid())?;
        let width = if address.is_ipv4() { 32 } else { Ipv6Addr::BITS };
        let prefix = match prefix {
            Some(prefix) => prefix.trim().parse().ok().filter(|bits| *bits <= width),
            None => Some(width),
        };
        let host_bits = width - prefix.ok_or_else(invalid)?;
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        Ok(Self { first: bits(address) & mask, mask })
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.1.2", "11.0.0.0"),
            ("10.1.2.3/8", "10.0.0.1", "::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::a00:1"),
            ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
        ] {
            let held: Network = network.parse().unwrap();
            assert!(held.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!held.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        let everything: Network = "::/0".parse().unwrap();
        assert!(everything.contains("203.0.113.9".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "example.org", "10/8"]
        {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
