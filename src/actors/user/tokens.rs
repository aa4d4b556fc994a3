//! Access tokens: signed by us, checked on every request without asking anyone.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::secret::{ServerSecret, derive};
use crate::clock::Clock;
use crate::domain::ids::UserId;
use crate::domain::user::{Caller, LoginId, Role, User};
use crate::error::{Code, ServiceError};

const ISSUER: &str = "whatif";
const AUDIENCE: &str = "whatif-api";
/// How far the clocks of two replicas may be apart.
const LEEWAY_S: i64 = 2;
/// Ours have about 400 bytes; anything much longer is not worth decoding.
const MAX_TOKEN_BYTES: usize = 4_096;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    role: Role,
    sid: Uuid,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: Uuid,
}

/// Issues and verifies access tokens.
pub struct TokenIssuer {
    header: Header,
    signing: EncodingKey,
    /// By key id: the current secret and the older ones.
    ring: HashMap<String, DecodingKey>,
    validation: Validation,
    ttl: Duration,
    clock: Clock,
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl TokenIssuer {
    pub fn new(secret: &ServerSecret, ttl: Duration, clock: Clock) -> Self {
        let mut secrets = secret.all();
        let current = secrets.next().unwrap_or_default();
        let header = Header { kid: Some(key_id(current)), ..Header::new(Algorithm::HS256) };
        let ring =
            secret.all().map(|secret| (key_id(secret), DecodingKey::from_secret(secret))).collect();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
        // Times are checked here, against the injected clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Self { header, signing: EncodingKey::from_secret(current), ring, validation, ttl, clock }
    }

    /// Life of the tokens, in whole seconds.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl.as_secs())
    }

    pub fn issue(&self, user: &User, login: LoginId) -> SecretString {
        let now = self.clock.now().as_second();
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: user.id,
            role: user.role,
            sid: login.0,
            iat: now,
            nbf: now,
            exp: now.saturating_add_unsigned(self.ttl.as_secs()),
            jti: Uuid::new_v4(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.signing)
            .expect("an HMAC key signs any claims")
            .into()
    }

    /// Who the token speaks for. Does no I/O; costs a few microseconds.
    ///
    /// # Errors
    /// `invalid_token`; an expired token has a code of its own.
    pub fn verify(&self, token: &str) -> Result<Caller, ServiceError> {
        let claims = self.decode(token).ok_or_else(invalid)?;
        let now = self.clock.now().as_second();
        if claims.exp.saturating_add(LEEWAY_S) <= now {
            return Err(ServiceError::new(Code::ExpiredToken, "the access token has expired"));
        }
        let latest = now.saturating_add(LEEWAY_S);
        if claims.nbf > latest || claims.iat > latest {
            return Err(invalid());
        }
        Ok(Caller {
            user: claims.sub,
            role: claims.role,
            login: LoginId(claims.sid),
            expires_at: Timestamp::from_second(claims.exp).map_err(|_| invalid())?,
        })
    }

    fn decode(&self, token: &str) -> Option<Claims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = self.ring.get(&header.kid?)?;
        Some(jsonwebtoken::decode::<Claims>(token, key, &self.validation).ok()?.claims)
    }
}

fn invalid() -> ServiceError {
    ServiceError::new(Code::InvalidToken, "the access token is not valid")
}

/// Names a secret without telling anything about it.
fn key_id(secret: &[u8]) -> String {
    use base64::Engine;
    let id = derive(secret, "key id");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&id[..9])
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
