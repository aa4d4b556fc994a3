//! What handlers take: the caller, and inputs whose rejection is an [`ApiError`].

use std::convert::Infallible;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use super::{AppState, address};
use crate::domain::login::{Client, Device};
use crate::domain::user::Caller;
use crate::error::{Code, ServiceError};

/// A caller with a valid access token. Its presence in a handler's signature is the route's permission.
pub struct Authed(pub Caller);

impl FromRequestParts<AppState> for Authed {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let token = match parts.extensions.get::<Token>() {
            Some(token) => token.clone(),
            None => Token::of(parts, state),
        };
        match token.0? {
            Some(caller) => Ok(Self(caller)),
            None => {
                let text = "an access token is needed (Authorization: Bearer …)";
                Err(ServiceError::new(Code::Unauthenticated, text).into())
            }
        }
    }
}

/// What a request's Authorization header says; left in the request by whoever looks at it first.
#[derive(Clone)]
pub struct Token(pub Result<Option<Caller>, ServiceError>);

impl Token {
    pub fn of(parts: &Parts, state: &AppState) -> Self {
        Self(match bearer(parts) {
            Ok(Some(token)) => state.users.verify(token).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// The caller, if it is known.
    pub fn caller(&self) -> Option<&Caller> {
        self.0.as_ref().ok()?.as_ref()
    }
}

/// The bearer token of a request, if it carries an Authorization header.
fn bearer(parts: &Parts) -> Result<Option<&str>, ServiceError> {
    let Some(value) = parts.headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(Some(token)),
        _ => Err(ServiceError::new(
            Code::Unauthenticated,
            "the Authorization header is not a bearer token",
        )),
    }
}

/// What a request says of its sender: told to people, never a reason to allow or refuse anything.
pub struct Sender(pub Client);

impl FromRequestParts<AppState> for Sender {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let agent = parts.headers.get(USER_AGENT).map(|agent| agent.as_bytes());
        let device = agent.and_then(|agent| Device::new(&String::from_utf8_lossy(agent)));
        let address = address::of(parts, &state.config.server.trusted_proxies);
        let address = address.map(|address| address.to_canonical());
        Ok(Self(Client { device, address }))
    }
}

/// A JSON body.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let axum::Json(value) = axum::Json::from_request(request, state).await?;
        Ok(Self(value))
    }
}

/// A JSON body together with its very bytes, which tell a repeated request from another one.
pub struct JsonBytes<T>(pub T, pub Bytes);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBytes<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let text = "the body must be JSON (Content-Type: application/json)";
            return Err(ServiceError::new(Code::UnsupportedMediaType, text).into());
        }
        let bytes = Bytes::from_request(request, state).await?;
        let axum::Json(value) = axum::Json::from_bytes(&bytes)?;
        Ok(Self(value, bytes))
    }
}

/// `application/json` or `application/…+json`, as [`axum::Json`] has it.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()) else {
        return false;
    };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = kind.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// Path parameters; one that does not parse names nothing (404).
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let axum::extract::Path(value) =
            axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}

/// Query parameters.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let axum::extract::Query(value) =
            axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}
