//! `Idempotency-Key` on creating requests: the same key and request again get the first answer.

use axum::body::Bytes;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use uuid::Uuid;

use super::AppState;
use super::error::ApiError;
use crate::actors::answers;
use crate::error::{Code, ServiceError};

/// Method, path and key of a creating request.
pub struct Idempotency {
    key: Option<String>,
    method: Method,
    path: String,
}

impl FromRequestParts<AppState> for Idempotency {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &AppState) -> Result<Self, ApiError> {
        let key = match parts.headers.get("idempotency-key") {
            None => None,
            Some(value) => Some(value.to_str().map(str::to_owned).map_err(|_| {
                ServiceError::invalid_field("Idempotency-Key", "must be visible ASCII")
            })?),
        };
        let path = match parts.extensions.get::<OriginalUri>() {
            Some(uri) => uri.path().to_owned(),
            None => parts.uri.path().to_owned(),
        };
        Ok(Self { key, method: parts.method.clone(), path })
    }
}

impl Idempotency {
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Runs `create` once for this key and `body`; it is given the id that the created thing must have.
    ///
    /// # Errors
    /// What `create` says, and `idempotency_conflict` for another body under the same key.
    pub async fn once<T: Serialize>(
        &self,
        state: &AppState,
        scope: &str,
        body: &[u8],
        status: StatusCode,
        create: impl AsyncFnOnce(Uuid) -> Result<T, ServiceError>,
    ) -> Result<Response, ApiError> {
        let Some(key) = &self.key else {
            let reserved = crate::domain::ids::ScenarioId::new(state.clock.now()).0;
            let created = create(reserved).await?;
            return Ok((status, axum::Json(created)).into_response());
        };
        let request =
            answers::Request { scope, key, method: self.method.as_str(), path: &self.path, body };
        let claim = match state.answers.begin(request).await? {
            answers::Begun::Replay { status, body } => return Ok(json(status, body)),
            answers::Begun::New(claim) => claim,
        };
        match create(claim.reserved).await {
            Ok(created) => {
                let body = Bytes::from(serde_json::to_vec(&created).map_err(|error| {
                    tracing::error!(%error, "answer cannot be written as JSON");
                    ServiceError::new(Code::Internal, "the answer cannot be written")
                })?);
                if let Err(error) = state.answers.finish(claim, status.as_u16(), body.clone()).await
                {
                    // The thing exists and has its reserved id: a repeat finds it.
                    tracing::warn!(%error, "answer was not kept");
                }
                Ok(json(status.as_u16(), body))
            }
            Err(error) => {
                if let Err(error) = state.answers.abandon(claim).await {
                    tracing::warn!(%error, "claim was not given up");
                }
                Err(error.into())
            }
        }
    }
}

fn json(status: u16, body: Bytes) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}
