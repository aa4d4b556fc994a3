//! `/scenarios/{id}/turns`: the same play as over a socket, without one.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Authed, Json, Path};
use super::idempotent::Idempotency;
use super::scenarios::scenario_id;
use crate::domain::ids::{SceneId, TurnId};
use crate::domain::turn::{Command, Request};
use crate::error::{Code, ServiceError};

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(start)).routes(routes!(stop))
}

/// What the reader does; also the content of the socket's commands.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TurnBody {
    /// Takes an offered choice of the current scene.
    Choose { scene: String, choice: String },
    /// Goes on from the current scene in the reader's own words (1 to 2,000 characters).
    Say { scene: String, text: String },
    /// Has a scene told anew, as a sibling.
    Retry { scene: String },
    /// Puts a scene in the reader's own text (1 to 20,000 characters) beside it, as a sibling.
    Edit { scene: String, text: String },
    /// Goes to a scene that exists.
    Jump { scene: String },
}

impl TurnBody {
    /// # Errors
    /// `scene_not_found` for a scene id that is none; `invalid_request` for an empty or too long text.
    pub fn into_command(self) -> Result<Command, ServiceError> {
        let id = |text: &str| text.parse::<SceneId>().map_err(|_| ServiceError::scene_not_found());
        let command = match self {
            TurnBody::Choose { scene, choice } => Command::Choose { scene: id(&scene)?, choice },
            TurnBody::Say { scene, text } => Command::Say { scene: id(&scene)?, text },
            TurnBody::Retry { scene } => Command::Retry { scene: id(&scene)? },
            TurnBody::Edit { scene, text } => Command::Edit { scene: id(&scene)?, text },
            TurnBody::Jump { scene } => Command::Jump { scene: id(&scene)? },
        };
        command.check().map_err(|message| ServiceError::invalid_field("text", message))?;
        Ok(command)
    }
}

#[derive(Serialize, ToSchema)]
struct Accepted {
    #[schema(format = "uuid")]
    turn: String,
}

/// Starts a turn; its events come over the socket or `/events`.
#[utoipa::path(
    post, path = "/scenarios/{id}/turns", operation_id = "start_turn", tag = "turns", security(("bearer" = [])),
    params(
        ("id" = String, Path, format = "uuid"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and command within 24 h get the first answer"),
    ),
    request_body = TurnBody,
    responses(
        (status = 202, body = Accepted), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, body = ErrorBody, description = "`stale_scene`, `turn_in_progress`, `idempotency_conflict`"),
        (status = 402, body = ErrorBody, description = "`budget_exhausted`"),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody, description = "`invalid_request`, `content_blocked`"), (status = 503, body = ErrorBody), (status = 504, body = ErrorBody),
    )
)]
async fn start(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path(id): Path<String>,
    idempotency: Idempotency,
    Json(body): Json<TurnBody>,
) -> Result<(StatusCode, axum::Json<Accepted>), ApiError> {
    let scenario = scenario_id(&id)?;
    let command = body.into_command()?;
    let key = idempotency.key().map(|key| format!("rest:{key}"));
    let request = Request { command, key, turn: TurnId::new(state.clock.now()) };
    let turn = state.generation.command(caller.user, scenario, request).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { turn: turn.to_string() })))
}

/// Ends a running turn and keeps its text as a scene.
#[utoipa::path(
    post, path = "/scenarios/{id}/turns/{turn}/stop", operation_id = "stop_turn", tag = "turns", security(("bearer" = [])),
    params(("id" = String, Path, format = "uuid"), ("turn" = String, Path, format = "uuid")),
    responses(
        (status = 202, body = Accepted), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody, description = "`turn_not_found`: it is not running"), (status = 503, body = ErrorBody), (status = 504, body = ErrorBody),
    )
)]
async fn stop(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path((id, turn)): Path<(String, String)>,
) -> Result<(StatusCode, axum::Json<Accepted>), ApiError> {
    let scenario = scenario_id(&id)?;
    let turn: TurnId =
        turn.parse().map_err(|_| ServiceError::new(Code::TurnNotFound, "no such turn"))?;
    state.generation.stop(caller.user, scenario, turn).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(Accepted { turn: turn.to_string() })))
}
