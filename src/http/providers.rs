//! `/providers`: who can tell and speak.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::ErrorBody;
use super::extract::Authed;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Text and speech providers, in the order they are asked.
#[derive(Serialize, ToSchema)]
struct Providers {
    text: Vec<Provider>,
    /// Narration is not part of this version.
    speech: Vec<Provider>,
}

#[derive(Serialize, ToSchema)]
struct Provider {
    name: String,
    /// The model of a scenario that names none.
    model: String,
    /// All that a scenario may name, `model` first; `*` stands for any.
    models: Vec<String>,
    /// `closed` (serving), `open`, `half_open` (being probed) or `down`.
    circuit: &'static str,
}

/// The configured providers, each with its circuit.
#[utoipa::path(
    get, path = "/providers", operation_id = "list_providers", tag = "scenarios", security(("bearer" = [])),
    responses((status = 200, body = Providers), (status = 401, body = ErrorBody))
)]
async fn list(State(state): State<AppState>, Authed(_): Authed) -> axum::Json<Providers> {
    let text = state.generation.texts().iter().map(|text| Provider {
        name: text.name.clone(),
        model: text.model.clone(),
        models: text.models.to_vec(),
        circuit: text.circuit().map_or("down", |circuit| circuit.as_str()),
    });
    axum::Json(Providers { text: text.collect(), speech: Vec::new() })
}
