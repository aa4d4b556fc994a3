//! `/users/me/logins`: where the caller is signed in, and how to end it.

use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Authed, Path, Query};
use crate::domain::login::{Device, LoginSession};
use crate::domain::user::{Caller, LoginId};

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, end_all)).routes(routes!(end))
}

/// A login of the caller.
#[derive(Serialize, ToSchema)]
#[schema(as = Login)]
struct LoginView {
    #[schema(format = "uuid")]
    id: String,
    /// What the client said it was (`User-Agent`) when it signed in or refreshed last, if that is known.
    #[schema(max_length = 200)]
    device: Option<String>,
    /// From where it did, if that is known.
    #[schema(example = "203.0.113.9")]
    address: Option<String>,
    created_at: Timestamp,
    /// To about a minute.
    last_used_at: Timestamp,
    /// Without another refresh.
    expires_at: Timestamp,
    /// Whether it is the one that asks.
    current: bool,
}

impl LoginView {
    fn new(login: LoginSession, caller: &Caller) -> Self {
        let LoginSession { id, client, created_at, last_used_at, expires_at, .. } = login;
        Self {
            id: id.0.to_string(),
            device: client.device.as_ref().map(|device| Device::as_str(device).to_owned()),
            address: client.address.map(|address| address.to_string()),
            created_at,
            last_used_at,
            expires_at,
            current: id == caller.login,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct LoginList {
    /// The last used first; at most 1,000.
    items: Vec<LoginView>,
    /// There are others, which were used less recently.
    more: bool,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EndQuery {
    /// Leave out the login that asks.
    #[serde(default)]
    #[param(default = false)]
    keep_current: bool,
}

/// The caller's logins.
#[utoipa::path(
    get, path = "/users/me/logins", operation_id = "list_logins", tag = "users", security(("bearer" = [])),
    responses((status = 200, body = LoginList), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody))
)]
async fn list(
    State(state): State<AppState>,
    Authed(caller): Authed,
) -> Result<axum::Json<LoginList>, ApiError> {
    let logins = state.users.logins(&caller).await?;
    let items = logins.items.into_iter().map(|login| LoginView::new(login, &caller)).collect();
    Ok(axum::Json(LoginList { items, more: logins.more }))
}

/// Ends a login: its refresh token at once, its access tokens and connections within two seconds. Ending it again is no
/// error.
#[utoipa::path(
    delete, path = "/users/me/logins/{id}", operation_id = "end_login", tag = "users", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 204), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "`not_found`: the caller has no such login"), (status = 503, body = ErrorBody),
    )
)]
async fn end(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path(id): Path<Uuid>,
) -> Result<StatusCode, ApiError> {
    state.users.end_login(&caller, LoginId(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends all logins of the caller, or all others.
#[utoipa::path(
    delete, path = "/users/me/logins", operation_id = "end_logins", tag = "users", security(("bearer" = [])),
    params(EndQuery),
    responses((status = 204), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody))
)]
async fn end_all(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Query(query): Query<EndQuery>,
) -> Result<StatusCode, ApiError> {
    state.users.end_logins(&caller, query.keep_current).await?;
    Ok(StatusCode::NO_CONTENT)
}
