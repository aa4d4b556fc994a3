//! `/users`: the caller's own account, and what it has used.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Authed, Query};
use super::wire::UserView;
use crate::actors::budget::UserUsage;
use crate::error::{Code, ServiceError};

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(me)).routes(routes!(usage))
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

/// Most days that can be asked for.
const MAX_DAYS: usize = 90;
const DAYS: usize = 30;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// How many days, today (UTC) included: 1 to 90; 30 if left out.
    #[param(minimum = 1, maximum = 90)]
    days: Option<usize>,
}

/// What language models have cost for the caller. The storyteller costs nothing and is not counted.
#[derive(Serialize, ToSchema)]
#[schema(as = UserUsage)]
struct UsageView {
    /// The newest first; days without a call are there as well.
    items: Vec<DayUsageView>,
    /// Most that one day may come to.
    limit: UsageLimitView,
    /// When the next day begins.
    #[schema(format = "date-time")]
    resets_at: Option<String>,
}

/// One day (UTC) of a user.
#[derive(Serialize, ToSchema)]
#[schema(as = DayUsage)]
struct DayUsageView {
    #[schema(format = "date")]
    day: String,
    /// Sent and written.
    tokens: u64,
    /// Micro-dollars: 1,000,000 are 1 USD.
    cost_micros: u64,
    /// Of these, the part held for calls that still run.
    reserved_tokens: u64,
    reserved_cost_micros: u64,
}

/// `null` is without a limit.
#[derive(Serialize, ToSchema)]
#[schema(as = UsageLimit)]
struct UsageLimitView {
    tokens: Option<u64>,
    cost_micros: Option<u64>,
}

impl From<UserUsage> for UsageView {
    fn from(usage: UserUsage) -> Self {
        let day = |of: crate::actors::budget::DayUsage| DayUsageView {
            day: of.day.to_string(),
            tokens: of.taken.all().tokens,
            cost_micros: of.taken.all().micros,
            reserved_tokens: of.taken.reserved.tokens,
            reserved_cost_micros: of.taken.reserved.micros,
        };
        Self {
            items: usage.days.into_iter().map(day).collect(),
            limit: UsageLimitView { tokens: usage.cap.tokens, cost_micros: usage.cap.micros },
            resets_at: usage.resets_at.map(|at| at.to_string()),
        }
    }
}

/// What the caller's turns have cost, day by day.
#[utoipa::path(
    get, path = "/users/me/usage", operation_id = "get_usage", tag = "users", security(("bearer" = [])), params(UsageQuery),
    responses(
        (status = 200, body = UsageView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn usage(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Query(query): Query<UsageQuery>,
) -> Result<axum::Json<UsageView>, ApiError> {
    let days = query.days.unwrap_or(DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(ServiceError::invalid_field("days", "must be 1 to 90").into());
    }
    Ok(axum::Json(state.generation.usage(caller.user, days).await?.into()))
}
