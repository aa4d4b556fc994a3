//! Who gets in, and with which code the others are sent away.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::super::support::app::App;
use super::super::support::socket::{Opening, Socket};
use super::{PROMPT, app, id};

fn hello(id: &str, token: &str) -> Message {
    Message::Text(json!({ "type": "hello", "id": id, "token": token }).to_string().into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_first_frame_is_welcomed() {
    let app = app().await;
    let reader = app.reader().await;
    let mut socket = Socket::open(&app, Opening::default()).await;
    let welcome = socket.ask(json!({ "type": "hello", "token": reader.token })).await;
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome["ping_s"], 25);
    assert_eq!(welcome["max_frame"], 65_536);
    assert!(!welcome["conn"].as_str().unwrap().is_empty());
    let mut second = Socket::open(&app, Opening::default()).await;
    let other = second.ask(json!({ "type": "hello", "token": reader.token })).await;
    assert_ne!(welcome["conn"], other["conn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_header_does_as_well() {
    let app = app().await;
    let reader = app.reader().await;
    let scenario = id(&app.scenario(&reader, PROMPT).await);
    let opening = Opening { token: Some(&reader.token), ..Opening::default() };
    // Without any hello,
    let mut socket = Socket::open(&app, opening).await;
    socket.attach(&scenario, None).await;
    socket.until_turn_over().await;
    // with one that brings no token, and with one that does.
    for hello in [json!({ "type": "hello" }), json!({ "type": "hello", "token": reader.token })] {
        let mut socket = Socket::open(&app, opening).await;
        assert_eq!(socket.ask(hello).await["type"], "welcome");
    }
    let mut socket = Socket::open(&app, opening).await;
    socket.send(hello("1", "forged")).await;
    assert_eq!(socket.closed().await, Some(4500), "a bad token is bad after a good one too");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_sent_away() {
    let app = App::start_with(|config| {
        config.sockets.hello_timeout = Duration::from_millis(300);
    })
    .await;
    let opened = std::time::Instant::now();
    let mut socket = Socket::open(&app, Opening::default()).await;
    assert_eq!(socket.closed().await, Some(4502));
    assert!(opened.elapsed() >= Duration::from_millis(300));
    // Pings are no hello.
    let mut socket = Socket::open(&app, Opening::default()).await;
    socket.send(Message::Ping(bytes::Bytes::new())).await;
    assert_eq!(socket.closed().await, Some(4502));
    // Who has said hello may be silent.
    let reader = app.reader().await;
    let mut quiet = Socket::hello(&app, &reader).await;
    let mut silent = Socket::open(&app, Opening::default()).await;
    assert_eq!(silent.closed().await, Some(4502));
    assert_eq!(quiet.ask(json!({ "type": "ping" })).await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_known_is_unauthorized() {
    let app = app().await;
    let reader = app.reader().await;
    let mut cut = reader.token.clone();
    cut.pop();
    let frames = [
        hello("1", "x"),
        hello("1", ""),
        hello("1", &cut),
        hello("1", &reader.refresh),
        Message::Text(r#"{"type":"hello","id":"1"}"#.into()),
        Message::Text(r#"{"type":"ping","id":"1"}"#.into()),
        Message::Text(json!({ "type": "attach", "id": "1", "scenario": "x" }).to_string().into()),
    ];
    for frame in frames {
        let mut socket = Socket::open(&app, Opening::default()).await;
        socket.send(frame.clone()).await;
        assert_eq!(socket.closed().await, Some(4500), "{frame}");
    }
    for token in ["x", &cut] {
        let opening = Opening { token: Some(token), ..Opening::default() };
        assert_eq!(Socket::open(&app, opening).await.closed().await, Some(4500));
    }
}

/// A client with a login gets a new token and comes back; one without any good token does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_expired_is_told_from_a_bad_one() {
    let app = App::start_with(|config| config.auth.access_ttl = Duration::from_secs(1)).await;
    let reader = app.reader().await;
    let expired = async {
        while app.ask(&reader, Method::GET, "/users/me", None).await.0 != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), expired).await.expect("it expires");
    let mut socket = Socket::open(&app, Opening::default()).await;
    socket.send(hello("1", &reader.token)).await;
    assert_eq!(socket.closed().await, Some(4002));
    let opening = Opening { token: Some(&reader.token), ..Opening::default() };
    assert_eq!(Socket::open(&app, opening).await.closed().await, Some(4002));
    // Nobody can tell when a forged one would have expired.
    let forged = format!("{}x", reader.token);
    let mut socket = Socket::open(&app, Opening::default()).await;
    socket.send(hello("1", &forged)).await;
    assert_eq!(socket.closed().await, Some(4500));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_is_not_spoken() {
    let app = app().await;
    let reader = app.reader().await;
    let missing = Opening { protocol: None, token: Some(&reader.token), ..Opening::default() };
    assert_eq!(Socket::open(&app, missing).await.closed().await, Some(4503));
    // The client's library would not go on without its protocol, so its connection is looked at from below.
    let status = super::super::support::socket::upgrade_raw(&app, "whatif.v9").await;
    assert_eq!(status, Some(4503));
    let several = Opening { protocol: Some("whatif.v9, whatif.v1"), ..Opening::default() };
    let mut socket = Socket::open(&app, several).await;
    let welcome = socket.ask(json!({ "type": "hello", "token": reader.token })).await;
    assert_eq!(welcome["type"], "welcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_sockets_and_a_replica_so_many() {
    let app = App::start_with(|config| {
        config.sockets.max_connections_per_user = 2;
        config.sockets.max_connections = 3;
    })
    .await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let first = Socket::hello(&app, &ada).await;
    let _second = Socket::hello(&app, &ada).await;
    let mut third = Socket::open(&app, Opening::default()).await;
    third.send(hello("1", &ada.token)).await;
    assert_eq!(third.closed().await, Some(4504), "of one user");
    let _bobs = Socket::hello(&app, &bob).await;
    let mut fourth = Socket::open(&app, Opening::default()).await;
    fourth.send(hello("1", &bob.token)).await;
    assert_eq!(fourth.closed().await, Some(4504), "of the replica");
    first.vanish();
    // As soon as the server has seen that one go there is a place again.
    loop {
        let mut socket = Socket::open(&app, Opening::default()).await;
        socket.send(hello("q1", &ada.token)).await;
        match socket.came().await {
            super::super::support::socket::Came::Frame(welcome) => {
                assert!(welcome.contains("welcome"), "{welcome}");
                break;
            }
            super::super::support::socket::Came::Closed(code) => assert_eq!(code, Some(4504)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspended_stays_outside() {
    let app = app().await;
    let reader = app.reader().await;
    let users = app.replica().state().users.clone();
    let user = whatif::domain::ids::UserId(reader.id.parse().unwrap());
    assert!(users.set_suspended(user, true).await.unwrap());
    let mut socket = Socket::open(&app, Opening::default()).await;
    socket.send(hello("1", &reader.token)).await;
    assert_eq!(socket.closed().await, Some(4505));
    let opening = Opening { token: Some(&reader.token), ..Opening::default() };
    assert_eq!(Socket::open(&app, opening).await.closed().await, Some(4505));
    assert!(users.set_suspended(user, false).await.unwrap());
    Socket::hello(&app, &reader).await;
}
