use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::support::app::{App, Reader};
use super::Answer;

async fn turn(app: &App, reader: &Reader, id: &str, body: Value) -> Answer {
    app.call(reader, Method::POST, &format!("/scenarios/{id}/turns"), Some(&body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_command_makes_the_scene_it_says() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let (id, scene) = app.told(&reader).await;
    let choice = scene["choices"][0].clone();
    for (command, scene, parent, via) in [
        (
            json!({ "kind": "choose", "scene": "n1", "choice": choice["id"] }),
            "n2",
            json!("n1"),
            json!({ "kind": "choose", "choice": choice["id"], "text": choice["label"] }),
        ),
        (
            json!({ "kind": "say", "scene": "n2", "text": "We wait." }),
            "n3",
            json!("n2"),
            json!({ "kind": "say", "text": "We wait." }),
        ),
        (
            json!({ "kind": "retry", "scene": "n3" }),
            "n4",
            json!("n2"),
            json!({ "kind": "retry", "of": "n3", "text": "We wait." }),
        ),
        (
            json!({ "kind": "edit", "scene": "n4", "text": "Nobody came." }),
            "n5",
            json!("n2"),
            json!({ "kind": "edit", "of": "n4" }),
        ),
    ] {
        let answer = turn(&app, &reader, &id, command).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        Uuid::parse_str(answer.body["turn"].as_str().unwrap()).unwrap();
        let told = app.until(&reader, &id, |told| told["current_scene"]["id"] == scene).await;
        let told = &told["current_scene"];
        assert_eq!((&told["parent"], &told["via"]), (&parent, &via), "{scene}");
        app.until_idle().await;
    }
    let answer = turn(&app, &reader, &id, json!({ "kind": "jump", "scene": "n1" })).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    app.until(&reader, &id, |told| told["current_scene"]["id"] == "n1").await;
    let tree = app.call(&reader, Method::GET, &format!("/scenarios/{id}/tree"), None).await;
    let scenes = tree.body["items"].as_array().unwrap();
    let ids: Vec<_> = scenes.iter().map(|scene| scene["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["n1", "n2", "n3", "n4", "n5"]);
    assert_eq!(scenes[4]["text"], "Nobody came.");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_followed_says_why() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let (id, scene) = app.told(&reader).await;
    let choice = scene["choices"][0]["id"].clone();
    let next = json!({ "kind": "choose", "scene": "n1", "choice": choice });
    assert_eq!(turn(&app, &reader, &id, next.clone()).await.status, 202);
    app.until(&reader, &id, |told| told["current_scene"]["id"] == "n2").await;
    app.until_idle().await;
    for (name, command, status, code) in [
        ("an old scene", next, 409, "stale_scene"),
        ("no scene", json!({ "kind": "say", "scene": "n9", "text": "x" }), 404, "scene_not_found"),
        ("no id", json!({ "kind": "jump", "scene": "first" }), 404, "scene_not_found"),
        ("no such to retry", json!({ "kind": "retry", "scene": "n9" }), 404, "scene_not_found"),
        (
            "no such choice",
            json!({ "kind": "choose", "scene": "n2", "choice": "c99" }),
            422,
            "invalid_request",
        ),
        ("no words", json!({ "kind": "say", "scene": "n2", "text": " " }), 422, "invalid_request"),
        (
            "too many words",
            json!({ "kind": "say", "scene": "n2", "text": "x".repeat(2_001) }),
            422,
            "invalid_request",
        ),
        (
            "too long",
            json!({ "kind": "edit", "scene": "n2", "text": "x".repeat(20_001) }),
            422,
            "invalid_request",
        ),
        ("no such kind", json!({ "kind": "dance", "scene": "n2" }), 422, "invalid_request"),
        ("no kind", json!({ "scene": "n2" }), 422, "invalid_request"),
    ] {
        let answer = turn(&app, &reader, &id, command).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(code)), "{name}");
        answer.is_error(status, code);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_turn_at_a_time_and_stop_keeps_its_text() {
    let mut app = App::start_with(|config| {
        config.providers.storyteller.words_per_second = 40.0;
    })
    .await;
    let reader = app.reader().await;
    let begun = app.scenario(&reader, "What if Rome never fell?").await;
    let (id, running) = (begun["id"].as_str().unwrap(), begun["turn"].as_str().unwrap());
    let busy = turn(&app, &reader, id, json!({ "kind": "retry", "scene": "n1" })).await;
    busy.is_error(409, "turn_in_progress");
    let stop = |turn: &str| {
        let path = format!("/scenarios/{id}/turns/{turn}/stop");
        let (app, reader) = (&app, &reader);
        async move { app.call(reader, Method::POST, &path, None).await }
    };
    stop(&Uuid::now_v7().to_string()).await.is_error(404, "turn_not_found");
    stop("nonsense").await.is_error(404, "turn_not_found");
    wait_for_text(&app, &reader, id).await;
    let answer = stop(running).await;
    assert_eq!((answer.status, &answer.body["turn"]), (202, &begun["turn"]));
    let told = app.until(&reader, id, |told| !told["current_scene"].is_null()).await;
    assert_eq!(told["current_scene"]["finish"], "stopped");
    assert!(!told["current_scene"]["text"].as_str().unwrap().is_empty());
    app.until_idle().await;
    stop(running).await.is_error(404, "turn_not_found");
    app.stop().await;
}

/// Until the first words are in the log.
async fn wait_for_text(app: &App, reader: &Reader, id: &str) {
    let request = app.request(Method::GET, &format!("/scenarios/{id}/events"));
    let mut events = request.bearer_auth(&reader.token).send().await.unwrap();
    let mut seen = String::new();
    while !seen.contains("event: text.delta") {
        let chunk = events.chunk().await.unwrap().expect("the stream stays open");
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_draining_replica_refuses_turns_with_a_time_to_come_back() {
    let mut app = App::start_with(|config| {
        config.sessions.max_turns = 1;
        config.providers.storyteller.words_per_second = 5.0;
    })
    .await;
    let reader = app.reader().await;
    app.scenario(&reader, "What if Rome never fell?").await;
    let wish = json!({ "prompt": "What if?" });
    let full = app.call(&reader, Method::POST, "/scenarios", Some(&wish)).await;
    full.is_error(503, "service_unavailable");
    app.replica().state().generation.refuse_turns();
    let draining = app.call(&reader, Method::POST, "/scenarios", Some(&wish)).await;
    draining.is_error(503, "service_unavailable");
    let list = app.call(&reader, Method::GET, "/scenarios", None).await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1, "nothing is stored of a refusal");
    app.stop().await;
}
