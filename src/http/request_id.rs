//! Every request's id, span and measures: the outermost layer of every listener.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use uuid::Uuid;

static HEADER: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request being answered; empty outside of one.
pub fn current() -> String {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// Takes the client's id or makes one, and puts it on the span, the answer and every error body.
pub async fn layer(request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("http.request", request_id = %id, %method, route);
    let since = Instant::now();
    let header = HeaderValue::from_str(&id);
    let mut response =
        CURRENT.scope(id, async move { next.run(request).await }.instrument(span.clone())).await;
    if let Ok(header) = header {
        response.headers_mut().insert(&HEADER, header);
    }
    let status = response.status().as_u16();
    let took = since.elapsed();
    span.in_scope(|| {
        let duration_ms = took.as_secs_f64() * 1000.0;
        if status >= 500 {
            tracing::warn!(status, duration_ms, "answered");
        } else {
            tracing::debug!(status, duration_ms, "answered");
        }
    });
    let labels =
        [("method", method.as_str().to_owned()), ("route", route), ("status", status.to_string())];
    metrics::counter!("whatif_http_requests_total", &labels).increment(1);
    metrics::histogram!("whatif_http_request_seconds", &labels[..2]).record(took.as_secs_f64());
    response
}
