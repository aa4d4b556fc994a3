//! `/scenarios`: begun, listed, changed and deleted by their owners.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Authed, Json, JsonBytes, Path, Query};
use super::idempotent::Idempotency;
use super::wire::{ScenarioDetailView, ScenarioView, SceneView};
use crate::domain::ids::{ScenarioId, TurnId};
use crate::domain::scenario::{Length, ScenarioChange};
use crate::domain::wish::{Offer, Wish, check_change};
use crate::error::ServiceError;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(get, patch, delete))
        .routes(routes!(tree))
}

#[derive(Deserialize, ToSchema)]
struct CreateBody {
    #[schema(example = "What if Rome never fell?", min_length = 1, max_length = 2000)]
    prompt: String,
    /// Up to 40 characters.
    genre: Option<String>,
    /// Up to 40 characters.
    tone: Option<String>,
    #[schema(value_type = Option<String>, example = "short")]
    length: Option<Length>,
    /// BCP 47 tag; `en` if left out.
    #[schema(example = "en")]
    language: Option<String>,
    /// One of `GET /providers`.
    provider: Option<String>,
    /// One of that provider's; without a provider, of the first that has it.
    model: Option<String>,
    /// 0 to 2^53 - 1; the storyteller tells the same story for the same seed.
    #[schema(minimum = 0, maximum = 9_007_199_254_740_991u64)]
    seed: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
struct PatchBody {
    #[schema(min_length = 1, max_length = 120)]
    title: Option<String>,
    /// At most 20, each of 1 to 40 characters.
    tags: Option<Vec<String>>,
    favorite: Option<bool>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// 1 to 100; 20 if left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A new scenario, its log's position, and its first turn.
#[derive(Serialize, ToSchema)]
struct Created {
    #[serde(flatten)]
    scenario: ScenarioDetailView,
    session: SessionView,
    /// The turn that tells the first scene.
    #[schema(format = "uuid")]
    turn: String,
}

/// Where a scenario's event log stands.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
struct SessionView {
    epoch: String,
    head: u64,
}

#[derive(Serialize, ToSchema)]
struct ScenarioList {
    items: Vec<ScenarioView>,
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct SceneList {
    items: Vec<SceneView>,
}

/// Begins a scenario: its first turn starts at once.
#[utoipa::path(
    post, path = "/scenarios", operation_id = "create_scenario", tag = "scenarios", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key and body within 24 h get the first answer")),
    request_body = CreateBody,
    responses(
        (status = 201, body = Created), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 402, body = ErrorBody, description = "`budget_exhausted`"), (status = 409, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody, description = "`invalid_request`, `content_blocked`"), (status = 503, body = ErrorBody),
    )
)]
async fn create(
    State(state): State<AppState>,
    Authed(caller): Authed,
    idempotency: Idempotency,
    JsonBytes(wish, bytes): JsonBytes<CreateBody>,
) -> Result<Response, ApiError> {
    let wish = Wish {
        prompt: wish.prompt,
        genre: wish.genre,
        tone: wish.tone,
        length: wish.length.unwrap_or_default(),
        language: wish.language,
        provider: wish.provider,
        model: wish.model,
        seed: wish.seed,
    };
    let texts = state.generation.texts().iter();
    let offers: Vec<Offer<'_>> =
        texts.map(|text| Offer { provider: &text.name, models: &text.models }).collect();
    let wish = wish.check(&offers)?;
    let services = state.clone();
    let begin = async move |id| {
        let now = services.clock.now();
        let id = ScenarioId(id);
        let scenario = wish.scenario(id, caller.user, rand::random(), now);
        let turn = services.generation.create(scenario, TurnId::new(now)).await?;
        let scenario = services.history.find_owned(id, caller.user).await?;
        let extent = services.generation.position(&scenario).await?;
        Ok(Created {
            session: SessionView { epoch: extent.epoch.to_string(), head: extent.head },
            scenario: ScenarioDetailView::new(scenario, None),
            turn: turn.to_string(),
        })
    };
    let scope = caller.user.to_string();
    idempotency.once(&state, scope, bytes, StatusCode::CREATED, begin).await
}

/// The caller's scenarios, newest first.
#[utoipa::path(
    get, path = "/scenarios", operation_id = "list_scenarios", tag = "scenarios", security(("bearer" = [])), params(ListQuery),
    responses(
        (status = 200, body = ScenarioList), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn list(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<ScenarioList>, ApiError> {
    let limit = query.limit.unwrap_or(20);
    if !(1..=100).contains(&limit) {
        return Err(ServiceError::invalid_field("limit", "must be from 1 to 100").into());
    }
    let page = state.history.list(caller.user, limit, query.cursor).await?;
    let items = page.items.into_iter().map(Into::into).collect();
    Ok(axum::Json(ScenarioList { items, next_cursor: page.next_cursor }))
}

/// One scenario with its current scene.
#[utoipa::path(
    get, path = "/scenarios/{id}", operation_id = "get_scenario", tag = "scenarios", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = ScenarioDetailView), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn get(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path(id): Path<String>,
) -> Result<axum::Json<ScenarioDetailView>, ApiError> {
    let scenario = state.history.find_owned(scenario_id(&id)?, caller.user).await?;
    let current = match scenario.current_scene {
        None => None,
        Some(scene) => state.history.find_scene(scenario.id, scene).await?,
    };
    Ok(axum::Json(ScenarioDetailView::new(scenario, current)))
}

/// All scenes, parents before children.
#[utoipa::path(
    get, path = "/scenarios/{id}/tree", operation_id = "list_scenes", tag = "scenarios", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid")),
    responses(
        (status = 200, body = SceneList), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn tree(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path(id): Path<String>,
) -> Result<axum::Json<SceneList>, ApiError> {
    let scenario = state.history.find_owned(scenario_id(&id)?, caller.user).await?;
    let scenes = state.history.list_scenes(scenario.id).await?;
    Ok(axum::Json(SceneList { items: scenes.into_iter().map(Into::into).collect() }))
}

/// Changes title, tags or favorite; what is left out stays.
#[utoipa::path(
    patch, path = "/scenarios/{id}", operation_id = "update_scenario", tag = "scenarios", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid")), request_body = PatchBody,
    responses(
        (status = 200, body = ScenarioView), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody, description = "`invalid_request`, `content_blocked`"), (status = 503, body = ErrorBody),
    )
)]
async fn patch(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path(id): Path<String>,
    Json(body): Json<PatchBody>,
) -> Result<axum::Json<ScenarioView>, ApiError> {
    let change = ScenarioChange { title: body.title, tags: body.tags, favorite: body.favorite };
    let change = check_change(change)?;
    let scenario = state.history.find_owned(scenario_id(&id)?, caller.user).await?;
    let tags = change.tags.as_ref().map(|tags| tags.join("\n"));
    for (field, text) in [("title", change.title.as_ref()), ("tags", tags.as_ref())] {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            state.moderation.check_input(field, text).await?;
        }
    }
    let changed = state.history.update(scenario.id, change).await?;
    let changed = changed.ok_or_else(ServiceError::scenario_not_found)?;
    Ok(axum::Json(changed.into()))
}

/// Deletes a scenario: gone from every read at once, purged after 30 days.
#[utoipa::path(
    delete, path = "/scenarios/{id}", operation_id = "delete_scenario", tag = "scenarios", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid")),
    responses((status = 204), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody))
)]
async fn delete(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let scenario = state.history.find_owned(scenario_id(&id)?, caller.user).await?;
    if !state.history.delete(scenario.id).await? {
        return Err(ServiceError::scenario_not_found().into());
    }
    state.generation.forget(scenario.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An id in a path; one that is none names no scenario.
pub(super) fn scenario_id(text: &str) -> Result<ScenarioId, ServiceError> {
    text.parse().map_err(|_| ServiceError::scenario_not_found())
}
