//! The API's description and a page that shows it, served from this process alone.

use axum::Router;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Where the description is served.
pub const OPENAPI_PATH: &str = "/api/v1/openapi.json";
/// Where the page is served.
pub const DOCS_PATH: &str = "/docs";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "whatif",
        description = "The backend of What If Generator: interactive what-if scenarios, streamed live and never lost. \
                       The WebSocket protocol is described in docs/PROTOCOL.md."
    ),
    modifiers(&Bearer),
    tags(
        (name = "auth", description = "Accounts and logins"),
        (name = "users", description = "The caller's account"),
        (name = "scenarios", description = "Scenarios and their scenes"),
        (name = "turns", description = "Live play: commands and events"),
        (name = "health", description = "For operators and load balancers"),
    )
)]
pub struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// Description and page.
pub fn routes<S: Clone + Send + Sync + 'static>(api: utoipa::openapi::OpenApi) -> Router<S> {
    let config = Config::new([OPENAPI_PATH]).try_it_out_enabled(true).persist_authorization(true);
    SwaggerUi::new(DOCS_PATH).url(OPENAPI_PATH, api).config(config).into()
}
