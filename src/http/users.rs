//! `/users`: the caller's own account.

use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::Authed;
use super::wire::UserView;
use crate::error::{Code, ServiceError};

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(me))
}

/// The caller.
#[utoipa::path(
    get, path = "/users/me", operation_id = "get_me", tag = "users", security(("bearer" = [])),
    responses(
        (status = 200, body = UserView), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "The account is gone"), (status = 503, body = ErrorBody),
    )
)]
async fn me(
    State(state): State<AppState>,
    Authed(caller): Authed,
) -> Result<axum::Json<UserView>, ApiError> {
    let user = state.users.profile(caller.user).await?;
    let user = user.ok_or_else(|| ServiceError::new(Code::UserNotFound, "no such user"))?;
    Ok(axum::Json(user.into()))
}
