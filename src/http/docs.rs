//! The API's description and a page that shows it, served from this process alone.

use axum::Router;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::content::Content;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Ref, RefOr};
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
        (name = "users", description = "The caller's account and logins"),
        (name = "scenarios", description = "Scenarios and their scenes"),
        (name = "turns", description = "Live play: commands and events"),
        (name = "chat", description = "Talk about a scenario"),
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

/// Adds what any operation may answer when it breaks, or when it asks someone who takes too long, when its caller asks
/// too much or is suspended, and says of every answer what it is.
pub(super) fn add_failures(api: &mut utoipa::openapi::OpenApi) {
    let failure = |text: &str| {
        let content = Content::new(Some(Ref::from_schema_name("Error")));
        ResponseBuilder::new().description(text).content("application/json", content).build()
    };
    for (path, item) in &mut api.paths.paths {
        let limited = !path.contains("/health");
        let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            let asks = responses.contains_key("503") && operation.security.is_some()
                || operation.request_body.is_some();
            if asks {
                responses.entry("504".into()).or_insert_with(|| failure("`timeout`").into());
            }
            if limited {
                responses.entry("429".into()).or_insert_with(|| too_many().into());
            }
            if operation.security.is_some() {
                let text = "`insufficient_permissions`: the account is suspended";
                responses.entry("403".into()).or_insert_with(|| failure(text).into());
            }
            responses.entry("500".into()).or_insert_with(|| failure("`internal`").into());
            for (status, response) in responses.iter_mut() {
                // A response without a description would make the document invalid.
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    describe(status).clone_into(&mut response.description);
                }
            }
        }
    }
}

/// What callers over their limit get. The headers but `Retry-After` come with every other answer as well.
fn too_many() -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Error")));
    let text = "`rate_limited`: too many requests of this user or from this address";
    let response = ResponseBuilder::new().description(text).content("application/json", content);
    [
        ("Retry-After", "Seconds until the same would be allowed"),
        ("RateLimit-Limit", "Requests of the limit that is nearest to its end"),
        ("RateLimit-Remaining", "What is left of it"),
        ("RateLimit-Reset", "Seconds until all of it is back"),
    ]
    .into_iter()
    .fold(response, |response, (name, text)| {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        response.header(
            name,
            HeaderBuilder::new().schema(Some(seconds)).description(Some(text)).build(),
        )
    })
    .build()
}

fn describe(status: &str) -> &'static str {
    match status {
        "200" => "Here it is",
        "201" => "Created",
        "202" => "Accepted",
        "204" => "Done",
        "400" => "`invalid_request`: the request cannot be read",
        "401" => "`unauthenticated`, `invalid_token`",
        "403" => "`insufficient_permissions`",
        "404" => "`not_found`, or the same said of what the path names",
        "409" => "`conflict`, `idempotency_conflict`",
        "413" => "`payload_too_large`",
        "415" => "`unsupported_media_type`: the body is not JSON",
        "422" => "`invalid_request`, with `details`",
        "503" => "`service_unavailable`, with `Retry-After`",
        _ => "See `error`",
    }
}

/// Description and page.
pub fn routes<S: Clone + Send + Sync + 'static>(api: utoipa::openapi::OpenApi) -> Router<S> {
    // The page would send the description to a stranger's validator otherwise.
    let config = Config::new([OPENAPI_PATH])
        .try_it_out_enabled(true)
        .persist_authorization(true)
        .validator_url("none");
    SwaggerUi::new(DOCS_PATH).url(OPENAPI_PATH, api).config(config).into()
}
