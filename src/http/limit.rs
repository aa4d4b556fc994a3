//! How often one may ask: the layer of the public gateway that answers 429, and what it tells in every other answer.
//!
//! The headers are `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, as the IETF's drafts had them until
//! they folded them into one structured field: that is what clients and proxies in use read. Several limits apply to
//! a request; the headers tell of the one that is nearest to its end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::extract::Token;
use super::{AppState, BASE, address};
use crate::actors::limits::{Class, Decision, Origin};
use crate::error::{Code, ServiceError};

pub static LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
pub static REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
pub static RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What a request was counted against so far; the layer leaves it in the request and reads it off afterwards.
#[derive(Clone)]
pub struct Counted {
    origin: Origin,
    tightest: Arc<Mutex<Option<Decision>>>,
}

/// The class of a request; `None` if it is never limited.
fn class(method: &Method, route: &str) -> Option<Class> {
    let Some(path) = route.strip_prefix(BASE) else {
        return (!route.starts_with("/health")).then_some(Class::Common);
    };
    Some(match path {
        "/health" | "/health/live" | "/health/ready" => return None,
        "/scenarios" | "/scenarios/{id}/turns" | "/chat/stream" if method == Method::POST => {
            Class::Turn
        }
        path if path.starts_with("/auth/") => Class::Auth,
        _ => Class::Common,
    })
}

pub async fn layer(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>();
    let class = class(&parts.method, route.map_or("", MatchedPath::as_str));
    let address = address::of(&parts, &state.config.server.trusted_proxies);
    let (Some(class), Some(address)) = (class, address) else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    // Checked once: the handler's extractor takes it from here.
    let token = Token::of(&parts, &state);
    let user = token.caller().map(|caller| caller.user);
    parts.extensions.insert(token);
    let counted = Counted { origin: Origin::of(address), tightest: Arc::default() };
    let decisions = state.limits.request(class, counted.origin, user).await;
    let mut response = match counted.note(decisions) {
        Err(refused) => refused.into_response(),
        Ok(()) => {
            parts.extensions.insert(counted.clone());
            next.run(Request::from_parts(parts, body)).await
        }
    };
    counted.tell(response.headers_mut());
    response
}

impl Counted {
    fn note(&self, decisions: impl IntoIterator<Item = Decision>) -> Result<(), ApiError> {
        let mut tightest = self.tightest.lock().unwrap_or_else(PoisonError::into_inner);
        *tightest = tightest.iter().copied().chain(decisions).reduce(tighter);
        match *tightest {
            Some(decision) if !decision.allowed => Err(too_many(&decision).into()),
            _ => Ok(()),
        }
    }

    fn tell(&self, headers: &mut HeaderMap) {
        let tightest = *self.tightest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Decision { limit, remaining, reset_after, .. }) = tightest else { return };
        headers.insert(&LIMIT, HeaderValue::from(limit));
        headers.insert(&REMAINING, HeaderValue::from(remaining));
        headers.insert(&RESET, HeaderValue::from(seconds(reset_after)));
    }
}

/// The one that stops the caller first: a refusal, the longer one, else what has the smallest part of it left.
fn tighter(one: Decision, other: Decision) -> Decision {
    let left = |a: &Decision, b: &Decision| u64::from(a.remaining) * u64::from(b.limit);
    let other_is_tighter = match (one.allowed, other.allowed) {
        (true, true) => left(&other, &one) < left(&one, &other),
        (false, false) => other.retry_after > one.retry_after,
        (one_allowed, _) => one_allowed,
    };
    if other_is_tighter { other } else { one }
}

/// `rate_limited`.
pub fn too_many(decision: &Decision) -> ServiceError {
    ServiceError::new(Code::RateLimited, "too many requests; wait a little")
        .retry_after(decision.retry_after)
}

/// Rounded up: earlier would be too early.
fn seconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

/// Counts attempts at an account, which only the body names. On the internal listeners nothing is counted.
pub struct Attempts(Option<Counted>);

impl FromRequestParts<AppState> for Attempts {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Counted>().cloned()))
    }
}

impl Attempts {
    /// # Errors
    /// `rate_limited`
    pub async fn at(&self, email: &str, state: &AppState) -> Result<(), ApiError> {
        let Some(counted) = &self.0 else { return Ok(()) };
        counted.note(state.limits.account(counted.origin, email).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_limited_but_health() {
        for (method, route, expected) in [
            (Method::GET, "/health", None),
            (Method::GET, "/api/v1/health/ready", None),
            (Method::GET, "", Some(Class::Common)),
            (Method::GET, "/docs", Some(Class::Common)),
            (Method::POST, "/api/v1/auth/login", Some(Class::Auth)),
            (Method::GET, "/api/v1/scenarios", Some(Class::Common)),
            (Method::POST, "/api/v1/scenarios", Some(Class::Turn)),
            (Method::POST, "/api/v1/scenarios/{id}/turns", Some(Class::Turn)),
            (Method::POST, "/api/v1/chat/stream", Some(Class::Turn)),
            (Method::POST, "/api/v1/scenarios/{id}/turns/{turn}/stop", Some(Class::Common)),
        ] {
            assert_eq!(class(&method, route), expected, "{method} {route}");
        }
    }

    #[test]
    fn the_headers_tell_of_the_limit_that_ends_first() {
        let decision = |allowed, limit, remaining, wait| Decision {
            allowed,
            limit,
            remaining,
            reset_after: Duration::ZERO,
            retry_after: Duration::from_secs(wait),
        };
        let wide = decision(true, 10_000, 100, 0);
        let narrow = decision(true, 60, 59, 0);
        let refused = decision(false, 1_000, 0, 1);
        let longer = decision(false, 60, 0, 9);
        for (name, one, other, expected) in [
            ("a smaller part", wide, narrow, wide),
            ("as good: the first", narrow, narrow, narrow),
            ("a refusal", narrow, refused, refused),
            ("the longer refusal", refused, longer, longer),
        ] {
            assert_eq!(tighter(one, other), expected, "{name}");
            assert_eq!(tighter(other, one), expected, "{name}, turned round");
        }
    }
}
