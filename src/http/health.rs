//! `/health`: how the whole process is doing, for operators and load balancers.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use crate::actors::circuit::State as Circuit;
use crate::actors::dependencies::DependencyStatus;
use crate::actors::gateway::{Health, Stage};
use crate::actors::status::ServiceStatus;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(live)).routes(routes!(ready))
}

/// How the whole process is doing.
#[derive(Serialize, ToSchema)]
#[schema(as = Health)]
struct HealthView {
    /// `ok`, `degraded` (something is away that something else stands in for) or `down`.
    status: &'static str,
    /// `starting`, `serving` or `draining`.
    stage: &'static str,
    version: &'static str,
    uptime_s: u64,
    /// Open WebSockets.
    sockets: usize,
    /// Live sessions.
    sessions: usize,
    /// Turns running.
    turns: usize,
    services: BTreeMap<&'static str, ServiceView>,
    /// What this replica depends on, looked at every five seconds: `redis`, `postgres` or `sqlite`, `dynamodb`,
    /// `event_log`.
    dependencies: BTreeMap<&'static str, DependencyView>,
}

/// How a service is doing.
#[derive(Serialize, ToSchema)]
#[schema(as = ServiceHealth)]
pub(super) struct ServiceView {
    /// `up`, `starting`, `restarting`, `down`, `stopped`, or `unavailable` for one that is not part of this version.
    status: &'static str,
    /// Why it is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    restarts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dependencies: Option<BTreeMap<&'static str, PoolView>>,
}

/// A server or file, as it was when it was last looked at.
#[derive(Serialize, ToSchema)]
#[schema(as = DependencyHealth)]
struct DependencyView {
    /// `up`, `down`, or `unknown` when nobody has looked for a while.
    status: &'static str,
    /// Which one it is: `server`, `cluster`, `embedded`, `aws`, `disk`, `memory`, `redis`.
    kind: &'static str,
    /// Of those who call it, where they have one: `closed`, `open`, `half_open` or `down`. Redis has that of the rate
    /// limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit: Option<&'static str>,
    /// Milliseconds that the last look took, or after which it was given up.
    latency_ms: Option<f64>,
    /// Seconds since then.
    seen_s: Option<u64>,
}

/// A service's calls of what it depends on.
#[derive(Serialize, ToSchema)]
#[schema(as = PoolHealth)]
struct PoolView {
    /// `closed` (serving), `open`, `half_open` (being probed) or `down`.
    circuit: &'static str,
    /// Calls running and waiting.
    in_flight: usize,
    /// Calls admitted at the same time; more are refused.
    capacity: usize,
}

#[derive(Serialize, ToSchema)]
struct Live {
    live: bool,
}

#[derive(Serialize, ToSchema)]
struct Ready {
    ready: bool,
    /// `starting` or `draining`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Every service with its calls, and every dependency with status, circuit and latency. 503 when something that nothing stands in for is away.
#[utoipa::path(
    get, path = "/health", tag = "health",
    responses((status = 200, body = HealthView, description = "`ok` or `degraded`"), (status = 503, body = HealthView, description = "`down`"))
)]
async fn health(State(state): State<AppState>) -> (StatusCode, axum::Json<HealthView>) {
    let (status, word) = match state.gateway.health() {
        Health::Ok => (StatusCode::OK, "ok"),
        Health::Degraded => (StatusCode::OK, "degraded"),
        Health::Down => (StatusCode::SERVICE_UNAVAILABLE, "down"),
    };
    let services = state.gateway.services().iter();
    let dependencies = state.gateway.dependencies().iter();
    let view = HealthView {
        status: word,
        stage: stage(state.gateway.stage()),
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: state.started.elapsed().as_secs(),
        sockets: state.gateway.open_sockets(),
        sessions: state.generation.live_sessions(),
        turns: state.generation.running_turns(),
        services: services.map(|service| (service.name, service_view(service))).collect(),
        dependencies: dependencies.map(|one| (one.name(), dependency_view(one))).collect(),
    };
    (status, axum::Json(view))
}

fn dependency_view(dependency: &DependencyStatus) -> DependencyView {
    let seen = dependency.last_look();
    // To the hundredth: what is less is not worth reading.
    let millis = |time: Duration| (time.as_secs_f64() * 100_000.0).round() / 100.0;
    DependencyView {
        status: dependency.answering().as_str(),
        kind: dependency.kind(),
        circuit: dependency.circuit().map(circuit),
        latency_ms: seen.map(|(latency, _)| millis(latency)),
        seen_s: seen.map(|(_, ago)| ago.as_secs()),
    }
}

fn circuit(state: Option<Circuit>) -> &'static str {
    state.map_or("down", Circuit::as_str)
}

const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Starting => "starting",
        Stage::Serving => "serving",
        Stage::Draining => "draining",
    }
}

pub(super) fn service_view(service: &ServiceStatus) -> ServiceView {
    if service.planned.is_some() {
        let (restarts, dependencies) = (None, None);
        return ServiceView {
            status: "unavailable",
            message: service.planned,
            restarts,
            dependencies,
        };
    }
    let dependencies = service.pools.iter().map(|pool| {
        let view = PoolView {
            circuit: circuit(pool.circuit()),
            in_flight: pool.admitted(),
            capacity: pool.capacity(),
        };
        (pool.name(), view)
    });
    ServiceView {
        status: service.liveness().as_str(),
        message: None,
        restarts: Some(service.restarts()),
        dependencies: Some(dependencies.collect()),
    }
}

/// The process is up.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, body = Live)))]
async fn live() -> axum::Json<Live> {
    axum::Json(Live { live: true })
}

/// Whether new requests should come here: not while starting or draining.
#[utoipa::path(
    get, path = "/health/ready", tag = "health",
    responses((status = 200, body = Ready), (status = 503, body = Ready))
)]
async fn ready(State(state): State<AppState>) -> (StatusCode, axum::Json<Ready>) {
    match state.gateway.stage() {
        Stage::Serving => (StatusCode::OK, axum::Json(Ready { ready: true, reason: None })),
        away => {
            let view = Ready { ready: false, reason: Some(stage(away)) };
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(view))
        }
    }
}
