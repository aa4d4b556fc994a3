//! A whole replica whose scenarios are on a server that goes away in the middle of a turn.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use whatif::config::Config;

use super::super::support::app::{App, Reader};
use super::super::support::socket::{PATIENCE, Socket, kind};
use super::super::support::story::Story;
use super::proxy::{Fate, Proxy};
use super::servers::{config, dynoxide};

const PROMPT: &str = "What if Rome never fell?";

async fn replica(proxy: &Proxy) -> App {
    let dynamodb = config(proxy.url());
    App::start_with(|config: &mut Config| {
        config.dynamodb = dynamodb;
        config.dynamodb.attempt_timeout = Duration::from_millis(1_500);
        config.dynamodb.operation_timeout = Duration::from_secs(4);
        config.circuits.min_calls = 3;
        config.circuits.backoff_max = Duration::from_millis(200);
        config.providers.storyteller.words_per_second = 150.0;
    })
    .await
}

/// Events until one of this type, that included.
async fn until(socket: &mut Socket, wanted: &str) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        events.push(socket.event().await);
        if kind(events.last().unwrap()) == wanted {
            return events;
        }
    }
}

/// Whether calls get through to the store of scenarios.
async fn is_closed(app: &App) -> bool {
    let health = app.request(Method::GET, "/health").send().await.unwrap();
    let health: serde_json::Value = health.json().await.unwrap();
    health["services"]["history"]["dependencies"]["history.store"]["circuit"] == "closed"
}

/// A scene may have got through while the circuit still keeps others back for a moment.
async fn while_open(app: &App) {
    let closed = async {
        while !is_closed(app).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("the circuit closes");
}

/// What the scenario holds after its first turn.
async fn holds_one_scene(app: &App, reader: &Reader, scenario: &str) {
    let path = format!("/scenarios/{scenario}");
    let (status, found) = app.ask(reader, Method::GET, &path, None).await;
    assert_eq!((status, &found["scene_count"]), (200, &json!(1)), "{found}");
    let (_, tree) = app.ask(reader, Method::GET, &format!("{path}/tree"), None).await;
    assert_eq!(tree["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scene_waits_for_its_store_and_is_stored_once() {
    let mut proxy = Proxy::start(&dynoxide()).await;
    let mut app = replica(&proxy).await;
    let reader = app.reader().await;
    let scenario = app.scenario(&reader, PROMPT).await["id"].as_str().unwrap().to_owned();
    let mut socket = Socket::hello(&app, &reader).await;
    socket.attach(&scenario, None).await;
    let mut events = until(&mut socket, "text.delta").await;
    proxy.go_away().await;
    // Nothing of the telling depends on the store.
    events.extend(until(&mut socket, "choices.done").await);

    // Readers get refusals that say when to come back; soon the circuit gives them without asking.
    let open = async {
        loop {
            let request = app.request(Method::GET, "/scenarios").bearer_auth(&reader.token);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 503);
            let after = answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
            assert!(after >= 1);
            let body: serde_json::Value = answer.json().await.unwrap();
            assert_eq!(body["error"], "service_unavailable", "{body}");
            if !is_closed(&app).await {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, open).await.expect("the circuit opens");
    assert_eq!(socket.ask(json!({ "type": "ping" })).await["type"], "pong");
    let kept = socket.kept();
    assert!(kept.iter().all(|event| !kind(event).starts_with("turn.")), "{kept:?}");
    events.extend(kept);

    proxy.come_back().await;
    events.extend(socket.until_turn_over().await);
    assert_eq!(kind(events.last().unwrap()), "turn.done");
    while_open(&app).await;
    Story::of(&events).agrees_with(&app, &reader, &scenario).await;
    holds_one_scene(&app, &reader, &scenario).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scene_whose_storing_is_never_confirmed_is_stored_once() {
    let proxy = Proxy::start(&dynoxide()).await;
    let mut app = replica(&proxy).await;
    let reader = app.reader().await;
    let scenario = app.scenario(&reader, PROMPT).await["id"].as_str().unwrap().to_owned();
    // More often than one call tries: the turn itself has to try again.
    proxy.next(7, "TransactWriteItems", Fate::AnswerLost);
    let mut socket = Socket::hello(&app, &reader).await;
    socket.attach(&scenario, None).await;
    let events = socket.until_turn_over().await;
    assert_eq!(kind(events.last().unwrap()), "turn.done");
    assert!(proxy.seen("TransactWriteItems") > 7);
    while_open(&app).await;
    Story::of(&events).agrees_with(&app, &reader, &scenario).await;
    holds_one_scene(&app, &reader, &scenario).await;
    app.stop().await;
}
