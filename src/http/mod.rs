//! HTTP: the public gateway and the services' internal listeners.
//!
//! A file per resource with its wire types, thin handlers and `routes()`; `ws/` is the socket. Handlers use service
//! handles and `domain`, never a store or a provider.

mod address;
mod auth;
mod chat;
pub mod docs;
mod error;
mod events;
mod extract;
mod health;
mod idempotent;
mod limit;
mod logins;
mod metrics;
mod providers;
mod request_id;
mod scenarios;
mod turns;
mod users;
mod wire;
mod ws;

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any as AnyOrigin, CorsLayer};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::actors::answers::AnswersHandle;
use crate::actors::cache::CacheHandle;
use crate::actors::chat::ChatHandle;
use crate::actors::gateway::GatewayHandle;
use crate::actors::generation::GenerationHandle;
use crate::actors::history::HistoryHandle;
use crate::actors::limits::LimitsHandle;
use crate::actors::moderation::ModerationHandle;
use crate::actors::user::UserHandle;
use crate::clock::Clock;
use crate::config::Config;
use crate::error::{Code, ServiceError};
use error::ApiError;

pub use metrics::MetricsPage;

/// What handlers can reach. Cheap to clone.
#[derive(Clone)]
pub struct AppState(Arc<Services>);

pub struct Services {
    pub users: UserHandle,
    pub history: HistoryHandle,
    pub generation: GenerationHandle,
    pub chat: ChatHandle,
    pub answers: AnswersHandle,
    pub gateway: GatewayHandle,
    pub limits: LimitsHandle,
    pub moderation: ModerationHandle,
    pub cache: CacheHandle,
    pub metrics: MetricsPage,
    pub clock: Clock,
    pub config: Arc<Config>,
    pub started: Instant,
}

impl AppState {
    pub fn new(services: Services) -> Self {
        Self(Arc::new(services))
    }
}

impl Deref for AppState {
    type Target = Services;

    fn deref(&self) -> &Services {
        &self.0
    }
}

const BASE: &str = "/api/v1";

/// The services with a listener of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    User,
    Generation,
    History,
    Sharing,
    Video,
    Social,
}

impl Service {
    pub const fn name(self) -> &'static str {
        match self {
            Service::User => "user",
            Service::Generation => "generation",
            Service::History => "history",
            Service::Sharing => "sharing",
            Service::Video => "video",
            Service::Social => "social",
        }
    }

    /// The service's part of the API.
    fn routes(self) -> OpenApiRouter<AppState> {
        match self {
            Service::User => auth::routes().merge(users::routes()).merge(logins::routes()),
            Service::Generation => turns::routes()
                .merge(events::routes())
                .merge(chat::routes())
                .merge(providers::routes())
                .merge(ws::routes()),
            Service::History => scenarios::routes(),
            Service::Sharing | Service::Video | Service::Social => OpenApiRouter::new(),
        }
    }

    /// Path prefixes of the services that serve nothing yet.
    const fn planned(self) -> &'static [&'static str] {
        match self {
            Service::Sharing => &["/shares"],
            Service::Video => &["/videos", "/narrations"],
            Service::Social => &["/social", "/feed"],
            Service::User | Service::Generation | Service::History => &[],
        }
    }

    const ALL: [Service; 6] = [
        Service::User,
        Service::Generation,
        Service::History,
        Service::Sharing,
        Service::Video,
        Service::Social,
    ];
}

fn described() -> OpenApiRouter<AppState> {
    let services = Service::ALL.into_iter().map(Service::routes);
    let api = services.fold(health::routes(), OpenApiRouter::merge);
    let mut api = OpenApiRouter::with_openapi(docs::Api::openapi()).nest(BASE, api);
    docs::add_failures(api.get_openapi_mut());
    api
}

/// The API's description (OpenAPI 3.1).
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

/// Everything that is public.
pub fn gateway_router(state: AppState) -> Router {
    let (api, description) = described().split_for_parts();
    let planned = Service::ALL.into_iter().fold(Router::new(), with_planned);
    let (health, _) = health::routes().split_for_parts();
    let router = api.merge(planned).merge(health).merge(docs::routes(description));
    let router =
        router.route("/", routing::get(|| async { axum::response::Redirect::to(docs::DOCS_PATH) }));
    let limit = middleware::from_fn_with_state(state.clone(), limit::layer);
    wrapped(bounded(router, &state).layer(limit), &state).with_state(state)
}

/// A service's own listener: its part of the API, its health, and the process's metrics. Nothing is limited here.
pub fn internal_router(service: Service, state: AppState) -> Router {
    let (routes, _) = OpenApiRouter::new().nest(BASE, service.routes()).split_for_parts();
    let status = move |State(state): State<AppState>| async move {
        let found = state.gateway.services().iter().find(|known| known.name == service.name());
        axum::Json(found.map(|found| health::service_view(found)))
    };
    let router = with_planned(routes, service)
        .route("/health", routing::get(status))
        .route("/metrics", routing::get(metrics::page));
    wrapped(bounded(router, &state), &state).with_state(state)
}

fn with_planned(router: Router<AppState>, service: Service) -> Router<AppState> {
    let answer = move || async move {
        let text = format!("the {} service is not part of this version", service.name());
        let wait = std::time::Duration::from_secs(3600);
        ApiError(ServiceError::new(Code::ServiceUnavailable, text).retry_after(wait))
    };
    service.planned().iter().fold(router, |router, prefix| {
        router
            .route(&format!("{BASE}{prefix}"), routing::any(answer))
            .route(&format!("{BASE}{prefix}/{{*rest}}"), routing::any(answer))
    })
}

/// What a request may cost, and an answer for those that name nothing.
fn bounded(router: Router<AppState>, state: &AppState) -> Router<AppState> {
    router
        .fallback(|| async { ApiError(ServiceError::new(Code::NotFound, "there is nothing here")) })
        .method_not_allowed_fallback(|| async {
            ApiError(ServiceError::new(Code::MethodNotAllowed, "this method is not allowed here"))
        })
        .layer(DefaultBodyLimit::max(state.config.server.max_body_bytes))
        .layer(middleware::from_fn_with_state(state.clone(), deadline))
}

/// What every answer gets.
fn wrapped(router: Router<AppState>, state: &AppState) -> Router<AppState> {
    router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(cors(&state.config.server.origins))
        .layer(middleware::from_fn(request_id::layer))
}

/// Bounds a whole request. What streams answers at once and is not bounded by this.
async fn deadline(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(state.config.server.request_timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError(ServiceError::timeout("the request")).into_response(),
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!(panic = text, "handler panicked");
    ApiError(ServiceError::internal()).into_response()
}

fn cors(origins: &[String]) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([
            HeaderName::from_static("authorization"),
            HeaderName::from_static("content-type"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("x-request-id"),
        ])
        .expose_headers([
            HeaderName::from_static("x-request-id"),
            HeaderName::from_static("retry-after"),
            limit::LIMIT.clone(),
            limit::REMAINING.clone(),
            limit::RESET.clone(),
        ])
        .max_age(std::time::Duration::from_secs(600));
    if origins.iter().any(|origin| origin == "*") {
        return layer.allow_origin(AnyOrigin);
    }
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    layer.allow_origin(origins.collect::<Vec<_>>())
}
