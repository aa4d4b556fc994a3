//! The one error shape of the API.

use axum::Json;
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::request_id;
use crate::error::{Code, FieldError, ServiceError};

/// A refusal or failure on its way to the client.
#[derive(Debug)]
pub struct ApiError(pub ServiceError);

/// Every error, the framework's own included.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// One of the documented codes.
    #[schema(example = "invalid_request")]
    error: &'static str,
    /// For a person.
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Vec<Detail>>,
    /// As in the `X-Request-ID` header.
    request_id: String,
}

/// What is wrong with one field.
#[derive(Serialize, ToSchema)]
#[schema(as = ErrorDetail)]
struct Detail {
    field: String,
    message: String,
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        Self(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let ServiceError { code, message, details, retry_after } = self.0;
        let status =
            StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let details = (!details.is_empty()).then(|| details.into_iter().map(detail).collect());
        let body = ErrorBody {
            error: code.as_str(),
            message: message.into_owned(),
            details,
            request_id: request_id::current(),
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = retry_after {
            // Whole seconds, rounded up: earlier would be refused again.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64),
            );
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn detail(error: FieldError) -> Detail {
    Detail { field: error.field, message: error.message }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidRequest,
            _ => Code::MalformedRequest,
        };
        Self(ServiceError::new(code, rejection.body_text()))
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::PayloadTooLarge,
            _ => Code::MalformedRequest,
        };
        Self(ServiceError::new(code, rejection.body_text()))
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self(ServiceError::new(Code::MalformedRequest, rejection.body_text()))
    }
}

/// A path that does not name anything.
impl From<PathRejection> for ApiError {
    fn from(_rejection: PathRejection) -> Self {
        Self(ServiceError::new(Code::NotFound, "there is nothing here"))
    }
}
