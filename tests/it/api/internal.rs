//! The services' own listeners: each serves its part of the API, its health and the process's metrics.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;

use super::super::support::app::{App, Reader};
use super::{Answer, send};

async fn start() -> App {
    App::start_with(|config| {
        let internal = &mut config.internal;
        internal.enabled = true;
        for port in [
            &mut internal.user_port,
            &mut internal.generation_port,
            &mut internal.history_port,
            &mut internal.sharing_port,
            &mut internal.video_port,
            &mut internal.social_port,
        ] {
            *port = 0;
        }
    })
    .await
}

async fn get(app: &App, service: &str, path: &str, reader: Option<&Reader>) -> Answer {
    let listeners = &app.replica().internal;
    let (_, address) = listeners.iter().find(|(name, _)| *name == service).unwrap();
    assert!(address.ip().is_loopback());
    let mut request = app.http.get(format!("http://{address}{path}"));
    if let Some(reader) = reader {
        request = request.bearer_auth(&reader.token);
    }
    send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_service_serves_its_part_and_nothing_else() {
    let mut app = start().await;
    let reader = app.reader().await;
    let parts = [
        ("user", "/api/v1/users/me", 200),
        ("generation", "/api/v1/providers", 200),
        ("history", "/api/v1/scenarios", 200),
        ("sharing", "/api/v1/shares", 503),
        ("video", "/api/v1/videos", 503),
        ("social", "/api/v1/feed", 503),
    ];
    for (service, ..) in parts {
        for (owner, path, status) in parts {
            let answer = get(&app, service, path, Some(&reader)).await;
            if service == owner {
                assert_eq!(answer.status, status, "{service} {path}");
            } else {
                answer.is_error(404, "not_found");
            }
        }
        let health = get(&app, service, "/health", None).await;
        let built = matches!(service, "user" | "generation" | "history");
        let status = if built { "up" } else { "unavailable" };
        assert_eq!((health.status, &health.body["status"]), (200, &json!(status)), "{service}");
        assert_eq!(get(&app, service, "/metrics", None).await.status, 200, "{service}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_internal_and_have_the_families_that_operators_need() {
    let mut app = start().await;
    for path in ["/metrics", "/api/v1/metrics"] {
        send(app.http.get(format!("{}{path}", app.base))).await.is_error(404, "not_found");
    }
    let reader = app.reader().await;
    let (id, _) = app.told(&reader).await;
    app.call(&reader, Method::GET, &format!("/scenarios/{id}"), None).await;
    let page = get(&app, "user", "/metrics", None).await;
    assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let families = parse(&page.text);
    for (name, kind) in [
        ("whatif_http_requests_total", "counter"),
        ("whatif_http_request_seconds", "histogram"),
        ("whatif_sockets", "gauge"),
        ("whatif_sessions", "gauge"),
        ("whatif_turns_running", "gauge"),
        ("whatif_turns_total", "counter"),
        ("whatif_turn_seconds", "histogram"),
        ("whatif_first_text_seconds", "histogram"),
        ("whatif_leases_held", "gauge"),
        ("whatif_service_up", "gauge"),
        ("whatif_service_restarts_total", "counter"),
        ("whatif_circuit_state", "gauge"),
        ("whatif_pool_jobs", "gauge"),
        ("whatif_pool_calls_total", "counter"),
        ("whatif_worker_restarts_total", "counter"),
    ] {
        let family = families.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(family.kind, kind, "{name}");
        assert!(!family.samples.is_empty(), "{name} has no sample");
    }
    let route = r#"{method="GET",route="/api/v1/scenarios/{id}",status="200"}"#;
    let asked = families["whatif_http_requests_total"].samples.get(route);
    assert!(asked.is_some_and(|count| *count >= 1.0), "{route} was not counted: {}", page.text);
    assert_eq!(families["whatif_circuit_state"].samples[r#"{pool="history.store"}"#], 0.0);
    assert_eq!(families["whatif_service_up"].samples[r#"{service="user"}"#], 1.0);
    assert!(!page.text.contains(&id), "an id would make a series per scenario");
    app.stop().await;
}

#[derive(Default)]
struct Family {
    kind: String,
    samples: BTreeMap<String, f64>,
}

/// Reads Prometheus' text format; every line must be one that a scraper takes.
fn parse(page: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ")) {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').expect("a type");
            let before =
                families.insert(name.into(), Family { kind: kind.into(), ..Family::default() });
            assert!(before.is_none(), "{name} is declared twice");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let (name, labels) = series.split_at(series.find('{').unwrap_or(series.len()));
        assert!(labels.is_empty() || labels.ends_with('}'), "{line}");
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!name.is_empty() && name.chars().all(valid), "{line}");
        let family = ["", "_bucket", "_sum", "_count"].into_iter().find_map(|suffix| {
            let name = name.strip_suffix(suffix)?;
            let known = families.get(name)?;
            (suffix.is_empty() || known.kind == "histogram").then(|| name.to_owned())
        });
        let family = family.unwrap_or_else(|| panic!("{line} belongs to no family"));
        let known = families.get_mut(&family).unwrap();
        let before = known.samples.insert(format!("{}{labels}", &name[family.len()..]), value);
        assert!(before.is_none(), "{series} is there twice");
    }
    families
}
