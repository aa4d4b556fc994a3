//! Login sessions: what is known of a login beside its credential, so that its user can tell one from another.
//!
//! Nothing here does I/O, and nothing is ever allowed or refused because of it: a client says of itself what it likes.

use std::net::IpAddr;

use jiff::Timestamp;

use super::ids::UserId;
use super::user::LoginId;

/// Longest description of a device.
pub const MAX_DEVICE_CHARS: usize = 200;

/// What a client says it is (its `User-Agent`), fit to be kept and shown: one line, nothing invisible, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device(String);

impl Device {
    /// `None` if nothing is left.
    pub fn new(said: &str) -> Option<Self> {
        let mut cleaned = String::new();
        let mut left = MAX_DEVICE_CHARS;
        for word in said.split(|c: char| c.is_whitespace() || c.is_control()) {
            let mut word = word.chars().filter(|c| !is_invisible(*c)).peekable();
            if word.peek().is_some() && !cleaned.is_empty() && left > 0 {
                cleaned.push(' ');
                left -= 1;
            }
            for shown in word.take(left) {
                cleaned.push(shown);
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        cleaned.truncate(cleaned.trim_end().len());
        (!cleaned.is_empty()).then_some(Self(cleaned))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Marks that show nothing themselves, but turn around or hide what stands beside them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Who signs in or refreshes, as far as the request tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    pub device: Option<Device>,
    pub address: Option<IpAddr>,
}

/// A login as its user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSession {
    /// Of the family of refresh tokens.
    pub id: LoginId,
    pub user: UserId,
    /// As it signed in or refreshed last.
    pub client: Client,
    pub created_at: Timestamp,
    /// To about a minute.
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_one_bounded_visible_line() {
        let long = "x".repeat(500);
        let words = "ab ".repeat(100);
        for (name, said, expected) in [
            ("usual", "Mozilla/5.0 (X11; Linux x86_64)", Some("Mozilla/5.0 (X11; Linux x86_64)")),
            ("blanks", "  a \t\r\n  b  ", Some("a b")),
            ("control", "a\u{1b}[31mb\0c", Some("a [31mb c")),
            ("turned around", "a\u{202e}b\u{200b}c\u{feff}", Some("abc")),
            ("other scripts", "Überbrowser 🦉", Some("Überbrowser 🦉")),
            ("nothing", "", None),
            ("nothing visible", " \u{200b}\t\u{202e} ", None),
            ("long", &long, Some(&long[..MAX_DEVICE_CHARS])),
            ("cut at a blank", &words, Some(&words[..MAX_DEVICE_CHARS])),
        ] {
            let device = Device::new(said);
            assert_eq!(device.as_ref().map(Device::as_str), expected, "{name}");
        }
        let wide = Device::new(&"🦉".repeat(500)).unwrap();
        assert_eq!(wide.as_str().chars().count(), MAX_DEVICE_CHARS);
        assert_eq!(Device::new(wide.as_str()), Some(wide), "cleaned once is clean");
    }
}
