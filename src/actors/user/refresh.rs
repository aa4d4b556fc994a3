//! Refresh tokens: opaque to clients, stored only as a hash, exchanged once.
//!
//! A token is `login id (16) | random (32) | tag (32)` in base64url. The tag, an HMAC by a key of ours, makes garbage
//! cost nothing and proves that a token which is neither the login's current one nor the one before was once given
//! out: someone kept a copy, so the whole login ends.
//!
//! A refresh that is sent twice (two tabs, a lost answer) gets the same successor again: it is stored sealed with a key
//! that comes from the exchanged token's random part, which nobody but its holder has.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::secret::{ServerSecret, derive, random_bytes};
use crate::actors::seal::SealingKey;
use crate::domain::user::LoginId;
use crate::storage::user::{Login, TokenHash};

/// How long after an exchange the exchanged token still gives its successor.
pub const GRACE: Duration = Duration::from_secs(10);

const ID: usize = 16;
const RANDOM: usize = 32;
const TAG: usize = 32;
const BODY: usize = ID + RANDOM;

/// Makes and recognises refresh tokens.
#[derive(Clone)]
pub struct RefreshTokens {
    /// The current secret's key, then the older ones.
    keys: Vec<hmac::Key>,
}

/// A token that was once given out by us.
pub struct Presented {
    pub login: LoginId,
    pub hash: TokenHash,
    seal: SealingKey,
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("login", &self.login).finish_non_exhaustive()
    }
}

impl RefreshTokens {
    pub fn new(secret: &ServerSecret) -> Self {
        let keys = secret.derive_all("refresh tokens");
        Self { keys: keys.iter().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key)).collect() }
    }

    /// A new token of a login.
    pub fn mint(&self, login: LoginId) -> SecretString {
        let mut bytes = [0; BODY + TAG];
        bytes[..ID].copy_from_slice(login.0.as_bytes());
        bytes[ID..BODY].copy_from_slice(&random_bytes::<RANDOM>());
        let tag = hmac::sign(&self.keys[0], &bytes[..BODY]);
        bytes[BODY..].copy_from_slice(tag.as_ref());
        URL_SAFE_NO_PAD.encode(bytes).into()
    }

    /// `None` for anything that we never gave out.
    pub fn recognise(&self, token: &SecretString) -> Option<Presented> {
        // Room for one wrong length: longer input is refused without being decoded.
        let mut bytes = [0; BODY + TAG + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(token.expose_secret(), &mut bytes).ok()?;
        let (body, tag) = bytes[..length].split_at_checked(BODY)?;
        let ours = self.keys.iter().any(|key| hmac::verify(key, body, tag).is_ok());
        ours.then(|| Presented {
            login: LoginId(Uuid::from_slice(&body[..ID]).unwrap_or_default()),
            hash: hash(token),
            seal: SealingKey::new(derive(&body[ID..], "successor")),
        })
    }
}

/// What is stored of a token.
pub fn hash(token: &SecretString) -> TokenHash {
    let hash = digest::digest(&digest::SHA256, token.expose_secret().as_bytes());
    TokenHash(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

impl Presented {
    /// The successor as it is stored beside the hash of this token.
    pub fn seal(&self, successor: &SecretString) -> Vec<u8> {
        self.seal.seal(self.login.0.as_bytes(), successor.expose_secret().as_bytes())
    }

    /// The successor sealed by [`Self::seal`].
    pub fn open(&self, sealed: &[u8]) -> Option<SecretString> {
        let bytes = self.seal.open(self.login.0.as_bytes(), sealed)?;
        String::from_utf8(bytes).ok().map(SecretString::from)
    }
}

/// What presenting a token of a login comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is the current one: exchange it.
    Exchange,
    /// It was exchanged a moment ago: give its successor (sealed here) again.
    Again(&'a [u8]),
    /// It was exchanged long ago: two parties hold the login.
    Reused,
    /// The login was ended or has run out.
    Over,
}

pub fn judge<'a>(login: &'a Login, presented: &TokenHash, now: Timestamp) -> Verdict<'a> {
    if login.revoked_at.is_some() || login.expires_at <= now {
        return Verdict::Over;
    }
    if login.current == *presented {
        return Verdict::Exchange;
    }
    match &login.previous {
        Some(previous) if previous.hash == *presented && now < previous.at + GRACE => {
            Verdict::Again(&previous.successor)
        }
        _ => Verdict::Reused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(secret: &str) -> RefreshTokens {
        RefreshTokens::new(&ServerSecret::new(&secret.repeat(32).into()).unwrap())
    }

    #[test]
    fn recognises_its_own_and_nothing_else() {
        let ours = tokens("a");
        let login = LoginId(Uuid::from_u128(7));
        let token = ours.mint(login);
        let presented = ours.recognise(&token).unwrap();
        assert_eq!((presented.login, presented.hash), (login, hash(&token)));
        assert!(tokens("b").recognise(&token).is_none(), "another secret");
        let text = token.expose_secret();
        assert_eq!(text.len(), 107);
        for position in [0, 30, 60, 100] {
            let mut forged = text.as_bytes().to_vec();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap().into();
            assert!(ours.recognise(&forged).is_none(), "changed at {position}");
        }
        for bad in
            ["", "é", &text[..106], &format!("{text}A"), &format!("{text}="), &"A".repeat(9_999)]
        {
            assert!(ours.recognise(&bad.into()).is_none(), "{}", bad.len());
        }
    }

    #[test]
    fn tokens_of_an_older_secret_stay_good_while_it_is_in_the_ring() {
        let old = ServerSecret::new(&"a".repeat(32).into()).unwrap();
        let token = RefreshTokens::new(&old).mint(LoginId(Uuid::nil()));
        let new = ServerSecret::new(&"b".repeat(32).into()).unwrap();
        assert!(RefreshTokens::new(&new).recognise(&token).is_none());
        assert!(RefreshTokens::new(&new.with_older(old)).recognise(&token).is_some());
    }

    #[test]
    fn only_the_exchanged_token_opens_its_successor() {
        let tokens = tokens("a");
        let login = LoginId(Uuid::from_u128(7));
        let (old, new) = (tokens.mint(login), tokens.mint(login));
        let presented = tokens.recognise(&old).unwrap();
        let sealed = presented.seal(&new);
        let opened = presented.open(&sealed).unwrap();
        assert_eq!(opened.expose_secret(), new.expose_secret());
        assert!(tokens.recognise(&new).unwrap().open(&sealed).is_none());
        assert!(!format!("{presented:?}").contains("seal"));
    }
}
