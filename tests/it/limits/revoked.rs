//! Access tokens, sockets and streams of logins that ended and users that were suspended.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use whatif::config;
use whatif::domain::ids::UserId;
use whatif::domain::user::LoginId;
use whatif::storage::redis::RedisRevocations;
use whatif::storage::revocation::{Revocation, RevocationStore};

use super::super::api::send;
use super::super::support::app::{App, PASSWORD, Reader};
use super::super::support::socket::{Opening, Socket};
use super::{connect, single};

const KEEP: Duration = Duration::from_secs(900);
/// The contract's two seconds, and what a loaded machine adds.
const SOON: Duration = Duration::from_secs(6);

/// Signs `reader` in once more.
async fn another_login(app: &App, reader: &Reader) -> Reader {
    let body = json!({ "email": reader.email, "password": PASSWORD });
    let answer = send(app.request(Method::POST, "/auth/login").json(&body)).await.body;
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    Reader { token: text("access_token"), refresh: text("refresh_token"), ..reader.clone() }
}

async fn status(app: &App, reader: &Reader) -> u16 {
    app.call(reader, Method::GET, "/users/me", None).await.status
}

async fn log_out(app: &App, reader: &Reader) {
    let body = json!({ "refresh_token": reader.refresh });
    let answer = send(app.request(Method::POST, "/auth/logout").json(&body)).await;
    assert_eq!(answer.status, 204);
}

/// The code with which the server closes the socket, soon: one that stays open answers pings for ever.
async fn closed(socket: &mut Socket) -> Option<u16> {
    tokio::time::timeout(SOON, socket.closed()).await.expect("the socket is closed soon")
}

/// The login that a token was issued to.
fn login_of(reader: &Reader) -> LoginId {
    let claims = reader.token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    LoginId(claims["sid"].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_access_token_of_this_login_alone() {
    let mut app = App::start().await;
    let ada = app.reader().await;
    let on_her_phone = another_login(&app, &ada).await;
    assert_eq!((status(&app, &ada).await, status(&app, &on_her_phone).await), (200, 200));
    log_out(&app, &ada).await;
    let answer = app.call(&ada, Method::GET, "/users/me", None).await;
    answer.is_error(401, "invalid_token");
    assert_eq!(status(&app, &on_her_phone).await, 200);
    let again = another_login(&app, &ada).await;
    assert_eq!(status(&app, &again).await, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_refresh_token_ends_the_access_tokens_as_well() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let refresh = |token: String| {
        let body = json!({ "refresh_token": token });
        send(app.request(Method::POST, "/auth/refresh").json(&body))
    };
    let first = refresh(reader.refresh.clone()).await;
    let second = refresh(first.body["refresh_token"].as_str().unwrap().into()).await;
    assert_eq!(second.status, 200);
    let token = second.body["access_token"].as_str().unwrap().to_owned();
    let newest = Reader { token, ..reader.clone() };
    assert_eq!(status(&app, &newest).await, 200);
    refresh(reader.refresh.clone()).await.is_error(401, "invalid_token");
    assert_eq!(status(&app, &newest).await, 401);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suspended_are_out_at_once_and_in_again_when_it_is_lifted() {
    let mut app = App::start().await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let users = app.replica().state().users.clone();
    let id: UserId = ada.id.parse().unwrap();
    let mut socket = Socket::hello(&app, &ada).await;
    let mut bobs = Socket::hello(&app, &bob).await;
    assert!(users.set_suspended(id, true).await.unwrap());
    app.call(&ada, Method::GET, "/users/me", None).await.is_error(403, "insufficient_permissions");
    assert_eq!(closed(&mut socket).await, Some(4505));
    let header = Opening { token: Some(&ada.token), ..Opening::default() };
    assert_eq!(closed(&mut Socket::open(&app, header).await).await, Some(4505));
    assert_eq!(bobs.ask(json!({ "type": "ping" })).await["type"], "pong");
    assert!(users.set_suspended(id, false).await.unwrap());
    assert_eq!(status(&app, &ada).await, 200, "the token had not run out");
    Socket::hello(&app, &ada).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_streams_of_an_ended_login_are_closed() {
    let mut app = App::start().await;
    let ada = app.reader().await;
    let on_her_phone = another_login(&app, &ada).await;
    let (id, _) = app.told(&ada).await;
    let mut by_hello = Socket::hello(&app, &ada).await;
    let header = Opening { token: Some(&ada.token), ..Opening::default() };
    let mut by_header = Socket::open(&app, header).await;
    assert_eq!(by_header.ask(json!({ "type": "ping" })).await["type"], "pong");
    let mut phone = Socket::hello(&app, &on_her_phone).await;
    // This one began with the login that ends, and goes on with another.
    let mut renewed = Socket::hello(&app, &ada).await;
    let refresh = json!({ "type": "refresh", "token": on_her_phone.token });
    assert_eq!(renewed.ask(refresh).await["type"], "ack");
    let events = format!("/scenarios/{id}/events");
    let mut stream =
        app.request(Method::GET, &events).bearer_auth(&ada.token).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    log_out(&app, &ada).await;
    assert_eq!(closed(&mut by_hello).await, Some(4500));
    assert_eq!(closed(&mut by_header).await, Some(4500));
    let ended =
        tokio::time::timeout(SOON, async { while stream.chunk().await.unwrap().is_some() {} });
    ended.await.expect("the stream ends");
    for socket in [&mut phone, &mut renewed] {
        assert_eq!(socket.ask(json!({ "type": "ping" })).await["type"], "pong");
    }
    log_out(&app, &on_her_phone).await;
    assert_eq!(closed(&mut phone).await, Some(4500));
    assert_eq!(closed(&mut renewed).await, Some(4500));
    app.stop().await;
}

/// What another replica publishes, and what it had published before this one started.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_on_another_replica_is_known_here_within_two_seconds() {
    let shared: config::Redis = single();
    let elsewhere = RedisRevocations::new(connect(&shared).await);
    let mut app = App::start_with(|config| config.redis = shared.clone()).await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let mut adas = Socket::hello(&app, &ada).await;
    let mut bobs = Socket::hello(&app, &bob).await;
    let bob_id = UserId(bob.id.parse::<Uuid>().unwrap());
    elsewhere.publish(Revocation::Ended(login_of(&ada)), KEEP).await.unwrap();
    elsewhere.publish(Revocation::Suspended(bob_id), KEEP).await.unwrap();
    let since = Instant::now();
    assert_eq!(closed(&mut adas).await, Some(4500));
    assert_eq!(closed(&mut bobs).await, Some(4505));
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!((status(&app, &ada).await, status(&app, &bob).await), (401, 403));
    // The other way round: what ends here is told there.
    let eve = app.reader().await;
    log_out(&app, &eve).await;
    let news = elsewhere.since(Default::default()).await.unwrap();
    assert!(news.revocations.contains(&Revocation::Ended(login_of(&eve))));
    app.restart().await;
    assert_eq!((status(&app, &ada).await, status(&app, &bob).await), (401, 403));
    assert_eq!(status(&app, &eve).await, 401);
    elsewhere.publish(Revocation::Restored(bob_id), KEEP).await.unwrap();
    let restored = tokio::time::timeout(SOON, async {
        while status(&app, &bob).await != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    restored.await.expect("the suspension ends here as well");
    app.stop().await;
}

/// Replicas with one Redis count together.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_count_one_limit() {
    let shared: config::Redis = single();
    let start = async || {
        App::start_with(|config| {
            config.redis = shared.clone();
            config.limits.per_address = 6;
            // A loaded machine is slow, and this is not about that.
            config.limits.store_timeout = Duration::from_secs(5);
        })
        .await
    };
    let (mut one, mut other) = (start().await, start().await);
    let mut passed = 0;
    for _ in 0..6 {
        for app in [&one, &other] {
            passed += u32::from(send(app.request(Method::GET, "/providers")).await.status == 401);
        }
    }
    assert_eq!(passed, 6);
    one.stop().await;
    other.stop().await;
}
