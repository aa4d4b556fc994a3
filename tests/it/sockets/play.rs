//! Playing: what each command brings about, in events and in the store.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::support::app::App;
use super::super::support::socket::Socket;
use super::super::support::story::Story;
use super::{app, begin, first_choice, paced, quick, told, tree, whole_log};

/// Types of a told turn's events, runs as one.
fn order(kinds: &[String]) -> Vec<&str> {
    let mut order: Vec<&str> = kinds.iter().map(String::as_str).collect();
    order.dedup();
    order
}

const TOLD: [&str; 7] = [
    "turn.started",
    "text.delta",
    "text.done",
    "choice",
    "choices.done",
    "state.patch",
    "turn.done",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_command_tells_its_scene_and_stores_what_it_told() {
    let app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, events) = told(&app, &reader).await;
    let choice = first_choice(&events);
    let mut story = Story::of(&events);
    assert_eq!(story.newest().via, json!({ "kind": "prompt" }));
    let label = story.newest().choices[0]["label"].clone();
    let edited = "The aqueducts ran dry.\n\nNobody noticed 𝄞 for a year.";
    let steps = [
        (
            json!({ "type": "choose", "scene": "n1", "choice": choice }),
            ("n2", json!("n1"), json!({ "kind": "choose", "choice": choice, "text": label })),
        ),
        (
            json!({ "type": "say", "scene": "n2", "text": " Ask the senate. " }),
            ("n3", json!("n2"), json!({ "kind": "say", "text": "Ask the senate." })),
        ),
        (
            json!({ "type": "retry", "scene": "n3" }),
            ("n4", json!("n2"), json!({ "kind": "retry", "text": "Ask the senate.", "of": "n3" })),
        ),
        (
            json!({ "type": "edit", "scene": "n4", "text": edited }),
            ("n5", json!("n2"), json!({ "kind": "edit", "of": "n4" })),
        ),
        (json!({ "type": "jump", "scene": "n2" }), ("n2", json!("n1"), json!({ "kind": "jump" }))),
        (
            json!({ "type": "say", "scene": "n2", "text": "Wait." }),
            ("n6", json!("n2"), json!({ "kind": "say", "text": "Wait." })),
        ),
        (
            json!({ "type": "retry", "scene": "n1" }),
            ("n7", json!(null), json!({ "kind": "retry", "of": "n1" })),
        ),
    ];
    for (mut command, (scene, parent, via)) in steps {
        command["scenario"] = scenario.as_str().into();
        let shown = command.to_string();
        let turn = socket.turn(command).await;
        socket.until_turn_over().await.iter().for_each(|event| story.apply(event));
        let telling = story.newest();
        assert_eq!(telling.turn, turn);
        assert_eq!((telling.scene.as_str(), &telling.parent, &telling.via), (scene, &parent, &via));
        assert_eq!(telling.finish(), "complete");
        let order = order(&telling.kinds);
        match via["kind"].as_str().unwrap() {
            "jump" => {
                let expected: Vec<_> =
                    TOLD.into_iter().filter(|kind| *kind != "state.patch").collect();
                assert_eq!(order, expected, "{shown}");
            }
            _ => {
                // The patch may come before or after the choices are known to be all.
                let mut sorted = order.clone();
                sorted.sort_unstable();
                let mut expected = TOLD.to_vec();
                expected.sort_unstable();
                assert_eq!(sorted, expected, "{shown}: {order:?}");
                assert_eq!(order[..4], TOLD[..4], "{shown}");
                assert_eq!(order[6], "turn.done", "{shown}");
            }
        }
    }
    assert!(story.turns[4].text == edited);
    assert_ne!(story.turns[2].text, story.turns[3].text, "told anew, not again");
    story.agrees_with(&app, &reader, &scenario).await;
    // And a client that comes only now is told the same.
    let (_, log) = whole_log(&app, &reader, &scenario).await;
    Story::of(&log).agrees_with(&app, &reader, &scenario).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_the_story_is_refused() {
    let app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, events) = told(&app, &reader).await;
    let choice = first_choice(&events);
    let command = |command: Value| {
        let mut command = command;
        command["scenario"] = scenario.as_str().into();
        command
    };
    socket.turn(command(json!({ "type": "choose", "scene": "n1", "choice": choice }))).await;
    socket.until_turn_over().await;
    for (ask, code) in [
        (json!({ "type": "choose", "scene": "n1", "choice": choice }), "stale_scene"),
        (json!({ "type": "say", "scene": "n1", "text": "go" }), "stale_scene"),
        (json!({ "type": "choose", "scene": "n2", "choice": "c9" }), "invalid_request"),
        (json!({ "type": "choose", "scene": "n9", "choice": "c1" }), "scene_not_found"),
        (json!({ "type": "say", "scene": "n9", "text": "go" }), "scene_not_found"),
        (json!({ "type": "retry", "scene": "n9" }), "scene_not_found"),
        (json!({ "type": "edit", "scene": "n9", "text": "go" }), "scene_not_found"),
        (json!({ "type": "jump", "scene": "n9" }), "scene_not_found"),
        (json!({ "type": "jump", "scene": "zzz" }), "scene_not_found"),
        (json!({ "type": "say", "scene": "n2", "text": "  " }), "invalid_request"),
        (json!({ "type": "say", "scene": "n2", "text": "x".repeat(2_001) }), "invalid_request"),
        (json!({ "type": "edit", "scene": "n2", "text": "" }), "invalid_request"),
        (json!({ "type": "stop", "turn": Uuid::nil().to_string() }), "turn_not_found"),
        (json!({ "type": "stop", "turn": "x" }), "turn_not_found"),
    ] {
        let shown = ask.to_string();
        assert_eq!(socket.refused(command(ask)).await, code, "{shown}");
    }
    assert!(socket.kept().is_empty(), "a refused command leaves no event");
    assert_eq!(tree(&app, &reader, &scenario).await.len(), 2);
    socket.turn(command(json!({ "type": "say", "scene": "n2", "text": "go" }))).await;
    socket.until_turn_over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_story_is_not_there() {
    let app = app().await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let (scenario, _socket, events) = told(&app, &ada).await;
    let turn = serde_json::from_str::<Value>(&events[0]).unwrap()["turn"].clone();
    let mut socket = Socket::hello(&app, &bob).await;
    for ask in [
        json!({ "type": "attach" }),
        json!({ "type": "choose", "scene": "n1", "choice": "c1" }),
        json!({ "type": "say", "scene": "n1", "text": "go" }),
        json!({ "type": "retry", "scene": "n1" }),
        json!({ "type": "edit", "scene": "n1", "text": "go" }),
        json!({ "type": "jump", "scene": "n1" }),
        json!({ "type": "stop", "turn": turn }),
    ] {
        let mut ask = ask;
        ask["scenario"] = scenario.as_str().into();
        assert_eq!(socket.refused(ask.clone()).await, "scenario_not_found", "{ask}");
    }
    assert_eq!(tree(&app, &ada, &scenario).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_keeps_what_was_told() {
    let app = paced(25.0).await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let mut socket = Socket::hello(&app, &reader).await;
    socket.attach(&scenario, None).await;
    let mut events = socket.take(5).await;
    let turn = Story::of(&events).newest().turn.clone();
    let stop = json!({ "type": "stop", "scenario": scenario, "turn": turn });
    assert_eq!(socket.ask(stop.clone()).await["type"], "ack");
    events.extend(socket.until_turn_over().await);
    let mut story = Story::of(&events);
    assert_eq!(story.newest().finish(), "stopped");
    assert!(story.newest().text.len() > 5);
    assert!(!events.iter().any(|event| event.contains("\"choice\"")), "the text alone is kept");
    story.agrees_with(&app, &reader, &scenario).await;
    assert_eq!(socket.refused(stop).await, "turn_not_found", "it is over");
    // The story goes on from there.
    let say = json!({ "type": "say", "scenario": scenario, "scene": "n1", "text": "Go on." });
    let turn = socket.turn(say).await;
    let path = format!("/scenarios/{scenario}/turns/{turn}/stop");
    assert_eq!(app.ask(&reader, Method::POST, &path, None).await.0, 202);
    socket.until_turn_over().await.iter().for_each(|event| story.apply(event));
    assert_eq!(story.newest().finish(), "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_command_gets_the_first_answer() {
    let mut app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, _) = told(&app, &reader).await;
    let idem = Uuid::new_v4().to_string();
    let say =
        json!({ "type": "say", "scenario": scenario, "scene": "n1", "text": "go", "idem": idem });
    let turn = socket.turn(say.clone()).await;
    assert_eq!(socket.turn(say.clone()).await, turn, "while it runs or just after");
    socket.until_turn_over().await;
    assert_eq!(socket.turn(say.clone()).await, turn, "when the story has gone on");
    let mut other = say.clone();
    other["text"] = "stay".into();
    assert_eq!(socket.refused(other.clone()).await, "idempotency_conflict");
    assert!(socket.kept().is_empty(), "no second turn");
    app.restart().await;
    let mut socket = Socket::hello(&app, &reader).await;
    assert_eq!(socket.turn(say).await, turn, "after a restart");
    assert_eq!(socket.refused(other).await, "idempotency_conflict");
    assert_eq!(tree(&app, &reader, &scenario).await.len(), 2);
    // A key belongs to its scenario.
    let (second, mut socket, _) = told(&app, &reader).await;
    let say =
        json!({ "type": "say", "scenario": second, "scene": "n1", "text": "go", "idem": idem });
    assert_ne!(socket.turn(say).await, turn);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_turn_at_a_time() {
    let app = paced(30.0).await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let mut first = Socket::hello(&app, &reader).await;
    first.attach(&scenario, None).await;
    let turn = Story::of(&first.take(1).await).newest().turn.clone();
    let say =
        |text: &str| json!({ "type": "say", "scenario": scenario, "scene": "n1", "text": text });
    let answer = first.command(say("early")).await;
    assert_eq!(
        (&answer["error"], &answer["retryable"]),
        (&json!("turn_in_progress"), &json!(true))
    );
    first.ask(json!({ "type": "stop", "scenario": scenario, "turn": turn })).await;
    first.until_turn_over().await;

    let mut sockets = join_all((0..50).map(|_| Socket::hello(&app, &reader))).await;
    let answers = sockets
        .iter_mut()
        .enumerate()
        .map(async |(number, socket)| socket.command(say(&format!("I am number {number}."))).await);
    let answers = join_all(answers).await;
    let accepted: Vec<_> = answers.iter().filter(|answer| answer["type"] == "ack").collect();
    assert_eq!(accepted.len(), 1, "{accepted:?}");
    for refused in answers.iter().filter(|answer| answer["type"] == "error") {
        assert_eq!(refused["error"], "turn_in_progress", "{refused}");
    }
    let turn = accepted[0]["result"]["turn"].as_str().unwrap();
    first.ask(json!({ "type": "stop", "scenario": scenario, "turn": turn })).await;
    first.until_turn_over().await;
    assert_eq!(tree(&app, &reader, &scenario).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_repeats_at_once_are_one_turn() {
    let app = app().await;
    let reader = app.reader().await;
    let (scenario, ..) = told(&app, &reader).await;
    let idem = Uuid::new_v4().to_string();
    let say =
        json!({ "type": "say", "scenario": scenario, "scene": "n1", "text": "go", "idem": idem });
    let mut sockets = join_all((0..50).map(|_| Socket::hello(&app, &reader))).await;
    let turns = join_all(sockets.iter_mut().map(|socket| socket.turn(say.clone()))).await;
    assert!(turns.iter().all(|turn| *turn == turns[0]), "{turns:?}");
    let (_, log) = whole_log(&app, &reader, &scenario).await;
    let started = log.iter().filter(|event| event.contains("turn.started")).count();
    assert_eq!(started, 2);
}

/// Once refused with `turn_in_progress`: the turn's actor lived a little longer than its last event took to be seen.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_seen_the_end_of_a_turn_may_begin_the_next() {
    let app = App::start_with(|config| {
        quick(config);
        // Old events are forgotten after each turn's end, which takes its actor some more time.
        config.event_log.retention = Duration::ZERO;
    })
    .await;
    let reader = app.reader().await;
    let play = async || {
        let scenario = begin(&app, &reader).await;
        let mut socket = Socket::hello(&app, &reader).await;
        socket.attach(&scenario, Some(("other", 1))).await;
        let snapshot: Value = serde_json::from_str(&socket.event().await).unwrap();
        if snapshot["scenes"] == json!([]) || snapshot["open_turn"] != json!(null) {
            socket.until_turn_over().await;
        }
        for _ in 0..15 {
            let retry = |scene| json!({ "type": "retry", "scenario": scenario, "scene": scene });
            socket.turn(retry("n1")).await;
            socket.until_turn_over().await;
            // Nor does a refused command stand in the way of the next.
            assert_eq!(socket.refused(retry("n999")).await, "scene_not_found");
        }
    };
    join_all((0..6).map(|_| play())).await;
}
