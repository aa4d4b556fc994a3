//! Where a request comes from.
//!
//! The peer, or what its proxies say. `X-Forwarded-For` is written by anyone, and each proxy adds on the right whom it
//! heard the request from: so it is read from the right for as long as trusted proxies vouch for it.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use crate::config::Network;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address of whoever asks; `None` only where there is no connection.
pub fn of(parts: &Parts, trusted: &[Network]) -> Option<IpAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(behind(peer.ip(), &parts.headers, trusted))
}

fn behind(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut nearest = peer;
    // Several headers are one list.
    let mut lines = headers.get_all(&FORWARDED_FOR).iter().collect::<Vec<_>>().into_iter().rev();
    let mut hops = std::iter::from_fn(|| {
        let line = lines.next()?;
        Some(line.to_str().unwrap_or("?").rsplit(',').map(str::trim).collect::<Vec<_>>())
    })
    .flatten();
    while is_trusted(nearest) {
        // Whatever stands left of something unreadable was not seen by anyone trusted.
        match hops.next().map(hop) {
            Some(Some(address)) => nearest = address,
            Some(None) | None => break,
        }
    }
    nearest
}

/// An address, perhaps with a port.
fn hop(text: &str) -> Option<IpAddr> {
    let bare = text.parse().or_else(|_| text.trim_matches(['[', ']']).parse());
    bare.ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "fd00::/8"].iter().map(|text| text.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(&FORWARDED_FOR, line.parse().unwrap());
        }
        behind(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed_and_only_about_their_peer() {
        for (name, peer, forwarded, expected) in [
            ("no proxy", "203.0.113.9", &[][..], "203.0.113.9"),
            ("a stranger forges", "203.0.113.9", &["198.51.100.1"], "203.0.113.9"),
            ("a proxy", "10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("a forged left", "10.0.0.1", &["192.0.2.1, 198.51.100.1"], "198.51.100.1"),
            ("two proxies", "10.0.0.1", &["192.0.2.1, 198.51.100.1 ,10.9.9.9"], "198.51.100.1"),
            ("two headers", "10.0.0.1", &["192.0.2.1", "198.51.100.1,10.2.0.1"], "198.51.100.1"),
            ("with a port", "10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("version 6", "fd00::1", &["2001:db8::7"], "2001:db8::7"),
            ("version 6, port", "fd00::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("version 6, brackets", "fd00::1", &["[2001:db8::7]"], "2001:db8::7"),
            ("mapped", "::ffff:10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("nobody outside", "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("nothing said", "10.0.0.1", &[], "10.0.0.1"),
            ("nonsense", "10.0.0.1", &["198.51.100.1, unknown"], "10.0.0.1"),
            ("empty", "10.0.0.1", &[""], "10.0.0.1"),
        ] {
            assert_eq!(seen(peer, forwarded), expected, "{name}");
        }
    }
}
