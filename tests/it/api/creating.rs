//! `Idempotency-Key`: a creating request that is sent again creates nothing again.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::super::support::app::{App, PASSWORD, Reader};
use super::{Answer, key, send};

fn account() -> Value {
    let email = format!("{}@example.org", Uuid::new_v4());
    json!({ "email": email, "password": PASSWORD, "display_name": "Ada" })
}

async fn register(app: &App, key: &str, body: &Value) -> Answer {
    let request = app.request(Method::POST, "/auth/register").header("Idempotency-Key", key);
    send(request.json(body)).await
}

async fn count(app: &App, reader: &Reader) -> usize {
    let list = app.call(reader, Method::GET, "/scenarios?limit=100", None).await;
    list.body["items"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_registration_gets_the_same_tokens_even_after_a_restart() {
    let mut app = App::start().await;
    let (key, body) = (key(), account());
    let first = register(&app, &key, &body).await;
    assert_eq!(first.status, 201);
    let again = register(&app, &key, &body).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    app.restart().await;
    let again = register(&app, &key, &body).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    register(&app, &key, &account()).await.is_error(409, "idempotency_conflict");
    register(&app, "another", &body).await.is_error(409, "conflict");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_scenario_is_one_scenario_even_after_a_restart() {
    let mut app = App::start().await;
    let (reader, other) = (app.reader().await, app.reader().await);
    let (key, body) = (key(), json!({ "prompt": "What if?" }));
    let first = app.post_once(&reader, "/scenarios", &key, &body).await;
    assert_eq!(first.status, 201);
    app.restart().await;
    let again = app.post_once(&reader, "/scenarios", &key, &body).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    let different = json!({ "prompt": "What if not?" });
    let answer = app.post_once(&reader, "/scenarios", &key, &different).await;
    answer.is_error(409, "idempotency_conflict");
    assert_eq!(count(&app, &reader).await, 1);
    // A key belongs to its user.
    let others = app.post_once(&other, "/scenarios", &key, &different).await;
    assert_eq!(others.status, 201);
    assert_ne!(others.body["id"], first.body["id"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_command_is_one_turn_even_after_a_restart() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let (id, _) = app.told(&reader).await;
    let (key, path) = (key(), format!("/scenarios/{id}/turns"));
    let body = json!({ "kind": "say", "scene": "n1", "text": "We wait." });
    let first = app.post_once(&reader, &path, &key, &body).await;
    assert_eq!(first.status, 202, "{first:?}");
    let again = app.post_once(&reader, &path, &key, &body).await;
    assert_eq!((again.status, &again.text), (202, &first.text));
    app.until(&reader, &id, |told| told["current_scene"]["id"] == "n2").await;
    app.restart().await;
    let again = app.post_once(&reader, &path, &key, &body).await;
    assert_eq!((again.status, &again.text), (202, &first.text));
    let different = json!({ "kind": "say", "scene": "n1", "text": "We go." });
    let answer = app.post_once(&reader, &path, &key, &different).await;
    answer.is_error(409, "idempotency_conflict");
    let tree = app.call(&reader, Method::GET, &format!("/scenarios/{id}/tree"), None).await;
    assert_eq!(tree.body["items"].as_array().unwrap().len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_many_times_at_once_creates_one_thing() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let (id, _) = app.told(&reader).await;
    let (registering, beginning, saying) = (key(), key(), key());
    let (account, wish) = (account(), json!({ "prompt": "What if?" }));
    let path = format!("/scenarios/{id}/turns");
    let command = json!({ "kind": "say", "scene": "n1", "text": "We wait." });
    let (accounts, scenarios, turns) = tokio::join!(
        join_all((0..6).map(|_| register(&app, &registering, &account))),
        join_all((0..6).map(|_| app.post_once(&reader, "/scenarios", &beginning, &wish))),
        join_all((0..6).map(|_| app.post_once(&reader, &path, &saying, &command))),
    );
    for (status, answers) in [(201, accounts), (201, scenarios), (202, turns)] {
        for answer in &answers {
            assert_eq!((answer.status, &answer.text), (status, &answers[0].text));
        }
    }
    assert_eq!(count(&app, &reader).await, 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_must_be_short_and_visible() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let wish = json!({ "prompt": "What if?" });
    let turn = json!({ "kind": "jump", "scene": "n1" });
    let turns = format!("/scenarios/{}/turns", Uuid::now_v7());
    for bad in ["", "a b", "é", &"k".repeat(256)] {
        for (path, body) in
            [("/auth/register", &account()), ("/scenarios", &wish), (turns.as_str(), &turn)]
        {
            let answer = app.post_once(&reader, path, bad, body).await;
            answer.is_error(422, "invalid_request");
            assert_eq!(answer.fields(), ["Idempotency-Key"], "{bad} {path}");
        }
    }
    let longest = app.post_once(&reader, "/scenarios", &"k".repeat(255), &wish).await;
    assert_eq!(longest.status, 201);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_leaves_its_key_free() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let (key, body) = (key(), account());
    let taken = json!({ "email": reader.email, "password": PASSWORD, "display_name": "B" });
    register(&app, &key, &taken).await.is_error(409, "conflict");
    assert_eq!(register(&app, &key, &body).await.status, 201);
    app.stop().await;
}

/// Before, a client that hung up took the creation with it, and its key stayed taken until the claim ran out.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_asked_for_is_created_even_if_it_hangs_up() {
    let mut app = App::start().await;
    let (key, body) = (key(), account());
    let text = body.to_string();
    let mut stream = TcpStream::connect(app.replica().address).await.unwrap();
    let request = format!(
        "POST /api/v1/auth/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         idempotency-key: {key}\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // Gone while the password is being hashed.
    let hashing = || {
        let services = app.replica().state().gateway.services();
        services
            .iter()
            .flat_map(|service| &service.pools)
            .any(|pool| pool.name() == "user.hashing" && pool.admitted() > 0)
    };
    // Seen or not: either way the account must come to be.
    for _ in 0..1_000 {
        if hashing() {
            break;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    stream.shutdown().await.unwrap();
    drop(stream);
    let login = json!({ "email": body["email"], "password": PASSWORD });
    let mut found = 0;
    for _ in 0..200 {
        found = send(app.request(Method::POST, "/auth/login").json(&login)).await.status;
        if found == 200 {
            break;
        }
    }
    assert_eq!(found, 200);
    assert_eq!(register(&app, &key, &body).await.status, 201);
    app.stop().await;
}
