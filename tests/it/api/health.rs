use reqwest::Method;
use serde_json::json;

use super::super::support::app::App;
use super::send;

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_of_every_service_and_dependency() {
    let mut app = App::start().await;
    let answer = send(app.request(Method::GET, "/health")).await;
    assert_eq!(answer.status, 200);
    let body = &answer.body;
    assert_eq!((&body["status"], &body["stage"]), (&json!("ok"), &json!("serving")));
    let services = body["services"].as_object().unwrap();
    for (name, dependencies) in [
        ("user", vec!["user.database", "user.hashing"]),
        ("generation", vec!["generation.budget", "text.storyteller"]),
        ("history", vec!["history.store"]),
        ("chat", vec![]),
    ] {
        let service = &services[name];
        assert_eq!((&service["status"], &service["restarts"]), (&json!("up"), &json!(0)), "{name}");
        let held = service["dependencies"].as_object().unwrap();
        assert_eq!(held.keys().collect::<Vec<_>>(), dependencies, "{name}");
        assert!(held.values().all(|held| held["circuit"] == "closed"), "{held:?}");
    }
    for planned in ["sharing", "video", "social"] {
        assert_eq!(services[planned]["status"], "unavailable", "{planned}");
        assert!(services[planned]["message"].is_string());
    }
    let dependencies = body["dependencies"].as_object().unwrap();
    let told: Vec<_> = dependencies
        .iter()
        .map(|(name, one)| (name.as_str(), one["kind"].as_str().unwrap(), one["circuit"].as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("dynamodb", "embedded", Some("closed")),
            ("event_log", "disk", None),
            ("sqlite", "embedded", Some("closed")),
        ]
    );
    for (name, one) in dependencies {
        assert_eq!(one["status"], "up", "{name}");
        assert!(one["latency_ms"].as_f64().is_some_and(|latency| latency < 1_000.0), "{one}");
        assert!(one["seen_s"].is_u64(), "{one}");
    }
    // Operators look at the root, too.
    let root = send(app.http.get(format!("{}/health", app.base))).await;
    assert_eq!((root.status, &root.body["status"]), (200, &json!("ok")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_replica_lives_but_is_not_ready() {
    let mut app = App::start().await;
    for prefix in ["/api/v1/health", "/health"] {
        let get = |path: &str| send(app.http.get(format!("{}{prefix}{path}", app.base)));
        let ready = get("/ready").await;
        assert_eq!((ready.status, ready.body), (200, json!({ "ready": true })));
        let live = get("/live").await;
        assert_eq!((live.status, live.body), (200, json!({ "live": true })));
    }
    app.replica().state().gateway.drain();
    let ready = send(app.request(Method::GET, "/health/ready")).await;
    assert_eq!((ready.status, ready.body), (503, json!({ "ready": false, "reason": "draining" })));
    assert_eq!(send(app.request(Method::GET, "/health/live")).await.status, 200);
    let health = send(app.request(Method::GET, "/health")).await;
    assert_eq!(health.body["stage"], "draining");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dependency_that_is_away_shows_and_its_service_answers_503() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    for service in app.replica().state().gateway.services() {
        if service.name == "history" {
            service.pools.iter().for_each(|pool| pool.refuse_all());
        }
    }
    let health = send(app.request(Method::GET, "/health")).await;
    assert_eq!((health.status, &health.body["status"]), (503, &json!("down")));
    let store = &health.body["services"]["history"]["dependencies"]["history.store"];
    assert_eq!(store["circuit"], "down");
    let list = app.call(&reader, Method::GET, "/scenarios", None).await;
    list.is_error(503, "service_unavailable");
    // The other services do not mind.
    assert_eq!(app.call(&reader, Method::GET, "/users/me", None).await.status, 200);
    app.stop().await;
}
