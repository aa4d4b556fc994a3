//! What is refused before an answer begins, and what ends one: its reader, its budget, its time.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use uuid::Uuid;
use whatif::config::budget::WhenExhausted;

use super::super::api::send;
use super::super::support::app::App;
use super::super::support::raw_http::{RawHttp, Step};
use super::server::{Canned, Server};
use super::{Told, read_until, vendor};

async fn stalling() -> RawHttp {
    RawHttp::start(vec![vec![Step::Head, Step::text("Varro was a steward"), Step::Stall]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_refused() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    for (name, body, status, code) in [
        ("no words", json!({ "message": " " }), 422, "invalid_request"),
        ("too many", json!({ "message": "x".repeat(2_001) }), 422, "invalid_request"),
        ("no message", json!({}), 422, "invalid_request"),
        ("no language", json!({ "message": "x", "language": "x/y" }), 422, "invalid_request"),
        ("no chat", json!({ "message": "x", "chat": "x" }), 422, "invalid_request"),
        ("no scenario", json!({ "message": "x", "scenario": "x" }), 404, "scenario_not_found"),
        (
            "nobody's",
            json!({ "message": "x", "scenario": Uuid::now_v7() }),
            404,
            "scenario_not_found",
        ),
    ] {
        let answer = send(app.ask_companion(&reader, &body)).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        answer.is_error(status, code);
    }
    app.replica().state().gateway.drain();
    let answer = send(app.ask_companion(&reader, &json!({ "message": "x" }))).await;
    answer.is_error(503, "service_unavailable");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_goes_away_ends_the_call_and_pays_what_was_written() {
    let mut model = stalling().await;
    let mut app = App::start_with(|config| vendor(config, "a", &model.url)).await;
    let reader = app.reader().await;
    let chat = Uuid::now_v7();
    let question = json!({ "message": "Who was Varro?", "chat": chat });
    let mut response = app.ask_companion(&reader, &question).send().await.unwrap();
    read_until(&mut response, "a steward").await;
    let (reserved, spent) = app.purse(&reader).await;
    assert!(reserved > 1_000 && spent == 0, "{reserved} {spent}");

    // One answer of a chat at a time.
    let busy = send(app.ask_companion(&reader, &question)).await;
    busy.is_error(409, "conflict");
    assert_eq!(model.connections(), 1, "a refused question is not sent to anybody");

    drop(response);
    model.client_gone().await;
    let spent = app.settled(&reader).await;
    assert!((250..reserved - 500).contains(&spent), "{spent} of {reserved}");
    for _ in 0..1_000 {
        let response = app.ask_companion(&reader, &question).send().await.unwrap();
        if response.status() == 200 {
            app.stop().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the chat is never free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_money_no_model_is_asked() {
    let model = Server::start([Canned::said(&["Yes."])]).await;
    for when in [WhenExhausted::Refuse, WhenExhausted::Storyteller] {
        let mut app = App::start_with(|config| {
            vendor(config, "a", &model.url);
            config.budget.user_tokens = Some(1_000);
            config.budget.when_exhausted = when;
        })
        .await;
        let reader = app.reader().await;
        let question = json!({ "message": "Who was Varro?" });
        if when == WhenExhausted::Refuse {
            let answer = send(app.ask_companion(&reader, &question)).await;
            answer.is_error(402, "budget_exhausted");
        } else {
            let told = app.chat(&reader, question).await;
            assert_eq!(told.all("chat.failover")[0]["reason"], "budget_exhausted");
            assert!(told.text().starts_with("No language model"), "{}", told.text());
        }
        assert_eq!(app.purse(&reader).await, (0, 0));
        assert!(model.noted().is_empty());
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_takes_too_long_fails_and_is_settled() {
    let model = stalling().await;
    let mut app = App::start_with(|config| {
        vendor(config, "a", &model.url);
        config.chat.timeout = Duration::from_millis(300);
    })
    .await;
    let reader = app.reader().await;
    let told = app.chat(&reader, json!({ "message": "Who was Varro?" })).await;
    let last = told.last();
    assert_eq!((&last["type"], &last["error"]), (&json!("chat.failed"), &json!("timeout")));
    assert_eq!(last["retryable"], true);
    assert_eq!(told.text(), "Varro was a steward");
    app.settled(&reader).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_reader_is_told_no_further() {
    let model = stalling().await;
    let mut app = App::start_with(|config| vendor(config, "a", &model.url)).await;
    let reader = app.reader().await;
    let question = json!({ "message": "Who was Varro?" });
    let mut response = app.ask_companion(&reader, &question).send().await.unwrap();
    let mut seen = read_until(&mut response, "a steward").await;
    let users = &app.replica().state().users;
    assert!(users.set_suspended(reader.id.parse().unwrap(), true).await.unwrap());
    seen.push_str(&read_until(&mut response, "chat.failed").await);
    seen.push_str(&response.text().await.unwrap());
    let told = Told::of(&seen);
    assert_eq!(told.last()["error"], "invalid_token");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_and_questions_are_limited() {
    let model = stalling().await;
    let mut app = App::start_with(|config| {
        vendor(config, "a", &model.url);
        config.chat.max_answers = 1;
        config.limits.turns_per_user = 3;
    })
    .await;
    let (one, other) = (app.reader().await, app.reader().await);
    let question = json!({ "message": "Who was Varro?" });
    let mut response = app.ask_companion(&one, &question).send().await.unwrap();
    read_until(&mut response, "a steward").await;
    let full = send(app.ask_companion(&other, &question)).await;
    full.is_error(503, "service_unavailable");
    for _ in 0..2 {
        send(app.ask_companion(&other, &question)).await.is_error(503, "service_unavailable");
    }
    send(app.ask_companion(&other, &question)).await.is_error(429, "rate_limited");
    let me = app.call(&other, Method::GET, "/users/me", None).await;
    assert_eq!(me.status, 200, "only what may cost a model's call");
    app.stop().await;
}
