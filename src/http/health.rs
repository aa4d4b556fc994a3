//! `/health`: how the whole process is doing, for operators and load balancers.

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use crate::actors::gateway::{Health, Stage};
use crate::actors::status::ServiceStatus;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(live)).routes(routes!(ready))
}

/// Every service and dependency with status and circuit. 503 when something that nothing stands in for is away.
#[utoipa::path(
    get, path = "/health", tag = "health",
    responses((status = 200, body = Value, description = "`ok` or `degraded`"), (status = 503, body = Value, description = "`down`"))
)]
async fn health(State(state): State<AppState>) -> (StatusCode, axum::Json<Value>) {
    let (status, word) = match state.gateway.health() {
        Health::Ok => (StatusCode::OK, "ok"),
        Health::Degraded => (StatusCode::OK, "degraded"),
        Health::Down => (StatusCode::SERVICE_UNAVAILABLE, "down"),
    };
    let services: Map<String, Value> = state
        .gateway
        .services()
        .iter()
        .map(|service| (service.name.to_owned(), service_view(service)))
        .collect();
    let stage = match state.gateway.stage() {
        Stage::Starting => "starting",
        Stage::Serving => "serving",
        Stage::Draining => "draining",
    };
    let body = json!({
        "status": word,
        "stage": stage,
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": state.started.elapsed().as_secs(),
        "sockets": state.gateway.open_sockets(),
        "sessions": state.generation.live_sessions(),
        "turns": state.generation.running_turns(),
        "services": services,
    });
    (status, axum::Json(body))
}

pub(super) fn service_view(service: &ServiceStatus) -> Value {
    if let Some(why) = service.planned {
        return json!({ "status": "unavailable", "message": why });
    }
    let dependencies: Map<String, Value> = service
        .pools
        .iter()
        .map(|pool| {
            let circuit = pool.circuit().map_or("down", |state| state.as_str());
            let view = json!({
                "circuit": circuit,
                "in_flight": pool.admitted(),
                "capacity": pool.capacity(),
            });
            (pool.name().to_owned(), view)
        })
        .collect();
    json!({
        "status": service.liveness().as_str(),
        "restarts": service.restarts(),
        "dependencies": dependencies,
    })
}

/// The process is up.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Value)))]
async fn live() -> axum::Json<Value> {
    axum::Json(json!({ "live": true }))
}

/// Whether new requests should come here: not while starting or draining.
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses((status = 200, body = Value), (status = 503, body = Value))
)]
async fn ready(State(state): State<AppState>) -> (StatusCode, axum::Json<Value>) {
    match state.gateway.stage() {
        Stage::Serving => (StatusCode::OK, axum::Json(json!({ "ready": true }))),
        stage => {
            let reason = if stage == Stage::Draining { "draining" } else { "starting" };
            let body = json!({ "ready": false, "reason": reason });
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body))
        }
    }
}
