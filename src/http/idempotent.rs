//! `Idempotency-Key` on creating requests: the same key and request again get the first answer.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::{Instant, timeout};
use tracing::Instrument;
use uuid::Uuid;

use super::AppState;
use super::error::ApiError;
use crate::actors::answers::{self, AnswersHandle};
use crate::domain::ids::ScenarioId;
use crate::error::{Code, ServiceError};

/// Longest that a repeat waits for the first request's answer.
const PATIENCE: Duration = Duration::from_secs(10);

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
            Some(value) => {
                let key = value.to_str().unwrap_or_default().to_owned();
                answers::check_key(&key)?;
                Some(key)
            }
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

    /// Runs `create` once for this key and `body`; it is given the id that the created thing must have. It runs in a
    /// task of its own: a client that goes away leaves neither half a thing nor a key that nobody gives back.
    ///
    /// # Errors
    /// What `create` says; `idempotency_conflict` for another body under the same key; `conflict` if the first request
    /// with this key takes too long to wait for.
    pub async fn once<T, F>(
        self,
        state: &AppState,
        scope: impl Into<String>,
        body: Bytes,
        status: StatusCode,
        create: impl FnOnce(Uuid) -> F + Send + 'static,
    ) -> Result<Response, ApiError>
    where
        T: Serialize,
        F: Future<Output = Result<T, ServiceError>> + Send + 'static,
    {
        let (answers, scope) = (state.answers.clone(), scope.into());
        let limit = state.config.server.request_timeout;
        let anew = ScenarioId::new(state.clock.now()).0;
        let create = async move |id| match timeout(limit, create(id)).await {
            Ok(created) => to_json(&created?),
            Err(_) => Err(ServiceError::timeout("the request")),
        };
        let work = async move {
            match self.key {
                None => Ok((status.as_u16(), create(anew).await?)),
                Some(key) => {
                    let request = answers::Request {
                        scope: &scope,
                        key: &key,
                        method: self.method.as_str(),
                        path: &self.path,
                        body: &body,
                    };
                    keyed(&answers, request, status.as_u16(), create).await
                }
            }
        };
        let (status, body) = tokio::spawn(work.in_current_span()).await.map_err(|error| {
            tracing::error!(%error, "creating died");
            ServiceError::internal()
        })??;
        Ok(json(status, body))
    }
}

async fn keyed(
    answers: &AnswersHandle,
    request: answers::Request<'_>,
    status: u16,
    create: impl AsyncFnOnce(Uuid) -> Result<Bytes, ServiceError>,
) -> Result<(u16, Bytes), ServiceError> {
    let claim = match begin(answers, request).await? {
        answers::Begun::Replay { status, body } => return Ok((status, body)),
        answers::Begun::New(claim) => claim,
    };
    match create(claim.reserved).await {
        Ok(body) => {
            if let Err(error) = answers.finish(claim, status, body.clone()).await {
                // The thing exists and has its reserved id: a repeat finds it.
                tracing::warn!(%error, "answer was not kept");
            }
            Ok((status, body))
        }
        Err(error) => {
            if let Err(error) = answers.abandon(claim).await {
                tracing::warn!(%error, "claim was not given up");
            }
            Err(error)
        }
    }
}

/// Claims the key; while another request with it runs, waits a while for that one's answer.
async fn begin(
    answers: &AnswersHandle,
    request: answers::Request<'_>,
) -> Result<answers::Begun, ServiceError> {
    let until = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(25);
    loop {
        match answers.begin(request).await {
            // Only a request that still runs has a time to come back.
            Err(error)
                if error.code == Code::Conflict
                    && error.retry_after.is_some()
                    && Instant::now() + pause < until =>
            {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(400));
            }
            other => return other,
        }
    }
}

fn to_json(created: &impl Serialize) -> Result<Bytes, ServiceError> {
    serde_json::to_vec(created).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "answer cannot be written as JSON");
        ServiceError::new(Code::Internal, "the answer cannot be written")
    })
}

fn json(status: u16, body: Bytes) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}
