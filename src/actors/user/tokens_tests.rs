//! Every way an access token can be wrong.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const TTL: Duration = Duration::from_secs(900);

fn secret(letter: &str) -> ServerSecret {
    ServerSecret::new(&letter.repeat(32).into()).unwrap()
}

fn clock() -> Clock {
    Clock::starting_at(Timestamp::from_second(NOW).unwrap())
}

fn issuer(secret: &ServerSecret) -> TokenIssuer {
    TokenIssuer::new(secret, TTL, clock())
}

fn user() -> User {
    User {
        id: UserId(Uuid::from_u128(1)),
        email: "ada@example.org".into(),
        display_name: "Ada".into(),
        role: Role::Moderator,
        suspended_at: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

const LOGIN: LoginId = LoginId(Uuid::from_u128(2));

/// Header and claims of a good token, to be spoiled.
fn good() -> (Value, Value) {
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": key_id("a".repeat(32).as_bytes()) });
    let claims = json!({
        "iss": "whatif", "aud": "whatif-api", "sub": user().id.0, "role": "moderator",
        "sid": LOGIN.0, "iat": NOW, "nbf": NOW, "exp": NOW + 900, "jti": Uuid::from_u128(3),
    });
    (header, claims)
}

/// Signs with HMAC-SHA256 whatever the header says.
fn signed(header: &Value, claims: &Value, key: &str) -> String {
    let message =
        format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", BASE64.encode(tag.as_ref()))
}

#[tokio::test(start_paused = true)]
async fn what_it_issues_it_verifies() {
    let issuer = issuer(&secret("a"));
    let token = issuer.issue(&user(), LOGIN);
    let caller = issuer.verify(token.expose_secret()).unwrap();
    let expires_at = Timestamp::from_second(NOW + 900).unwrap();
    let expected = Caller { user: user().id, role: Role::Moderator, login: LOGIN, expires_at };
    assert_eq!(caller, expected);
    assert_ne!(issuer.issue(&user(), LOGIN).expose_secret(), token.expose_secret(), "jti");
    for part in token.expose_secret().split('.').take(2) {
        let text = String::from_utf8(BASE64.decode(part).unwrap()).unwrap();
        assert!(!text.contains("ada"), "no personal data: {text}");
    }
    assert!(!format!("{issuer:?}{token:?}").contains(&"a".repeat(8)));
}

#[tokio::test(start_paused = true)]
async fn a_token_made_by_hand_is_the_control() {
    let (header, claims) = good();
    assert!(issuer(&secret("a")).verify(&signed(&header, &claims, &"a".repeat(32))).is_ok());
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_verified() {
    let issuer = issuer(&secret("a"));
    let header = |field: &str, value: Value| {
        let (mut header, claims) = good();
        header[field] = value;
        signed(&header, &claims, &"a".repeat(32))
    };
    let claim = |field: &str, value: Value| {
        let (header, mut claims) = good();
        claims[field] = value;
        signed(&header, &claims, &"a".repeat(32))
    };
    let without = |field: &str| {
        let (header, mut claims) = good();
        claims.as_object_mut().unwrap().remove(field);
        signed(&header, &claims, &"a".repeat(32))
    };
    let (plain_header, plain_claims) = good();
    let whole = signed(&plain_header, &plain_claims, &"a".repeat(32));
    let (message, tag) = whole.rsplit_once('.').unwrap();
    let mut admin = plain_claims.clone();
    admin["role"] = "admin".into();
    let unsigned = {
        let mut header = plain_header.clone();
        header["alg"] = "none".into();
        let encode = |value: &Value| BASE64.encode(value.to_string());
        format!("{}.{}.", encode(&header), encode(&plain_claims))
    };
    let swapped = {
        let (start, _) = message.split_once('.').unwrap();
        format!("{start}.{}.{tag}", BASE64.encode(admin.to_string()))
    };
    for (name, token) in [
        ("empty", String::new()),
        ("two dots", "..".into()),
        ("two parts", message.to_owned()),
        ("four parts", format!("{whole}.x")),
        ("huge", format!("{whole}{}", "A".repeat(10_000))),
        ("not ascii", "é.é.é".into()),
        ("alg none, no signature", unsigned),
        ("alg none", header("alg", "none".into())),
        ("alg HS512", header("alg", "HS512".into())),
        ("alg RS256", header("alg", "RS256".into())),
        ("alg unknown", header("alg", "XX".into())),
        ("kid missing", header("kid", Value::Null)),
        ("kid unknown", header("kid", "other".into())),
        ("another key", signed(&plain_header, &plain_claims, &"b".repeat(32))),
        ("claims swapped", swapped),
        ("signature cut", whole[..whole.len() - 2].to_owned()),
        ("signature gone", format!("{message}.")),
        ("iss", claim("iss", "other".into())),
        ("iss missing", without("iss")),
        ("aud", claim("aud", "other".into())),
        ("aud missing", without("aud")),
        ("sub no id", claim("sub", "ada".into())),
        ("sub missing", without("sub")),
        ("sid missing", without("sid")),
        ("role unknown", claim("role", "owner".into())),
        ("role missing", without("role")),
        ("exp missing", without("exp")),
        ("exp text", claim("exp", "tomorrow".into())),
        ("exp beyond time", claim("exp", i64::MAX.into())),
        ("nbf missing", without("nbf")),
        ("nbf in the future", claim("nbf", (NOW + 3).into())),
        ("iat in the future", claim("iat", (NOW + 3).into())),
    ] {
        let error = issuer.verify(&token).expect_err(name);
        assert_eq!(error.code, Code::InvalidToken, "{name}");
        assert!(!error.message.contains("expired"), "{name}");
    }
    assert!(issuer.verify(&claim("nbf", (NOW + 2).into())).is_ok(), "clocks may differ a little");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_says_so() {
    let issuer = issuer(&secret("a"));
    let token = issuer.issue(&user(), LOGIN);
    tokio::time::advance(TTL + Duration::from_secs(1)).await;
    assert!(issuer.verify(token.expose_secret()).is_ok(), "within the leeway");
    tokio::time::advance(Duration::from_secs(1)).await;
    let error = issuer.verify(token.expose_secret()).unwrap_err();
    assert_eq!(error.code, Code::ExpiredToken);
    assert_eq!(error.code.as_str(), "invalid_token");
    assert!(error.message.contains("expired"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn tokens_of_an_older_secret_stay_good_while_it_is_in_the_ring() {
    let token = issuer(&secret("a")).issue(&user(), LOGIN);
    assert!(issuer(&secret("b")).verify(token.expose_secret()).is_err());
    let ring = issuer(&secret("b").with_older(secret("a")));
    assert!(ring.verify(token.expose_secret()).is_ok());
    let newer = ring.issue(&user(), LOGIN);
    assert!(issuer(&secret("b")).verify(newer.expose_secret()).is_ok(), "signed with the newest");
}
