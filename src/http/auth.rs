//! `/auth`: accounts are opened and logins begin, go on and end here.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Json, JsonBytes, Sender};
use super::idempotent::Idempotency;
use super::limit::Attempts;
use super::wire::TokensView;
use crate::domain::ids::UserId;
use crate::domain::user::Registration;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(register))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
}

#[derive(Deserialize, ToSchema)]
struct RegisterBody {
    #[schema(example = "ada@example.org", max_length = 254)]
    email: String,
    /// At least 8 characters, at most 1,024 bytes.
    #[schema(min_length = 8, format = "password")]
    password: String,
    #[schema(example = "Ada", min_length = 1, max_length = 80)]
    display_name: String,
}

#[derive(Deserialize, ToSchema)]
struct LoginBody {
    email: String,
    #[schema(format = "password")]
    password: String,
}

#[derive(Deserialize, ToSchema)]
struct RefreshBody {
    refresh_token: String,
}

/// Opens an account and signs in.
#[utoipa::path(
    post, path = "/auth/register", tag = "auth",
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body within 24 h get the first answer")),
    request_body = RegisterBody,
    responses(
        (status = 201, body = TokensView, description = "Tokens with `user`"),
        (status = 400, body = ErrorBody), (status = 409, body = ErrorBody, description = "`conflict`: the e-mail address has an account; `idempotency_conflict`"),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn register(
    State(state): State<AppState>,
    idempotency: Idempotency,
    attempts: Attempts,
    Sender(client): Sender,
    JsonBytes(body, bytes): JsonBytes<RegisterBody>,
) -> Result<Response, ApiError> {
    attempts.at(&body.email, &state).await?;
    let RegisterBody { email, password, display_name } = body;
    let registration = Registration { email, password: SecretString::from(password), display_name };
    let users = state.users.clone();
    let open = async move |id| {
        let grant = users.register(registration, Some(UserId(id)), client).await?;
        Ok(TokensView::with_user(grant))
    };
    idempotency.once(&state, "register", bytes, StatusCode::CREATED, open).await
}

/// Signs in.
#[utoipa::path(
    post, path = "/auth/login", tag = "auth", request_body = LoginBody,
    responses(
        (status = 200, body = TokensView, description = "Tokens with `user`"),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody, description = "The account is suspended"),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn login(
    State(state): State<AppState>,
    attempts: Attempts,
    Sender(client): Sender,
    Json(body): Json<LoginBody>,
) -> Result<axum::Json<TokensView>, ApiError> {
    attempts.at(&body.email, &state).await?;
    let password = SecretString::from(body.password);
    let grant = state.users.login(&body.email, password, client).await?;
    Ok(axum::Json(TokensView::with_user(grant)))
}

/// Gives a new pair of tokens for a refresh token, which is used up.
#[utoipa::path(
    post, path = "/auth/refresh", tag = "auth", request_body = RefreshBody,
    responses(
        (status = 200, body = TokensView),
        (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 403, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn refresh(
    State(state): State<AppState>,
    Sender(client): Sender,
    Json(body): Json<RefreshBody>,
) -> Result<axum::Json<TokensView>, ApiError> {
    let grant = state.users.refresh(&SecretString::from(body.refresh_token), client).await?;
    Ok(axum::Json(TokensView::without_user(grant)))
}

/// Ends the login that the refresh token belongs to.
#[utoipa::path(
    post, path = "/auth/logout", tag = "auth", request_body = RefreshBody,
    responses(
        (status = 204), (status = 400, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody), (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn logout(
    State(state): State<AppState>,
    Json(body): Json<RefreshBody>,
) -> Result<StatusCode, ApiError> {
    state.users.logout(&SecretString::from(body.refresh_token)).await?;
    Ok(StatusCode::NO_CONTENT)
}
