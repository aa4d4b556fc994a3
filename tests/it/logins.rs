//! Logins as their users see them, on replicas that share PostgreSQL and Redis: listed and ended anywhere, while Redis
//! is there, away, slow, and restarted empty.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use whatif::config::{self, Config};

use super::api::send;
use super::support::app::{App, PASSWORD, Reader};
use super::support::postgres::{TestDatabase, config as database};
use super::support::redis::{OwnServer, cluster, server, until};
use super::support::socket::Socket;

/// The contract's two seconds, and what a loaded machine adds.
const SOON: Duration = Duration::from_secs(6);

/// A replica on a database and a Redis that others share.
async fn replica(shared: &TestDatabase, redis: &config::Redis) -> App {
    App::start_with(|config: &mut Config| {
        config.database = database(shared.url());
        config.auth.jwt_secret = Some("0123456789abcdef0123456789abcdef".into());
        config.redis = redis.clone();
        config.server.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    })
    .await
}

fn from(request: RequestBuilder, device: &str, address: &str) -> RequestBuilder {
    request.header("user-agent", device).header("x-forwarded-for", address)
}

/// Signs `reader` in once more, on a device, from somewhere.
async fn sign_in(app: &App, reader: &Reader, device: &str, address: &str) -> Reader {
    let body = json!({ "email": reader.email, "password": PASSWORD });
    let request = app.request(Method::POST, "/auth/login").json(&body);
    let answer = send(from(request, device, address)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    with_tokens(reader, &answer.body)
}

async fn refresh(app: &App, reader: &Reader, device: &str, address: &str) -> Reader {
    let body = json!({ "refresh_token": reader.refresh });
    let request = app.request(Method::POST, "/auth/refresh").json(&body);
    let answer = send(from(request, device, address)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    with_tokens(reader, &answer.body)
}

fn with_tokens(reader: &Reader, answer: &Value) -> Reader {
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    Reader { token: text("access_token"), refresh: text("refresh_token"), ..reader.clone() }
}

async fn list(app: &App, reader: &Reader) -> Vec<Value> {
    let answer = app.call(reader, Method::GET, "/users/me/logins", None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["items"].as_array().unwrap().clone()
}

/// Devices and addresses, in the order of the names.
async fn seen(app: &App, reader: &Reader) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = list(app, reader).await;
    let mut seen: Vec<_> =
        list.iter().map(|login| (text(&login["device"]), text(&login["address"]))).collect();
    seen.sort();
    seen
}

fn known(device: &str, address: &str) -> (String, String) {
    (device.into(), address.into())
}

async fn id_of(app: &App, reader: &Reader) -> String {
    let list = list(app, reader).await;
    let mut current = list.iter().filter(|login| login["current"] == true);
    let id = current.next().expect("the login that asks")["id"].as_str().unwrap().to_owned();
    assert!(current.next().is_none());
    id
}

async fn end(app: &App, reader: &Reader, path: &str) -> u16 {
    app.call(reader, Method::DELETE, path, None).await.status
}

async fn status(app: &App, reader: &Reader) -> u16 {
    app.call(reader, Method::GET, "/users/me", None).await.status
}

async fn closed(socket: &mut Socket) -> Option<u16> {
    tokio::time::timeout(SOON, socket.closed()).await.expect("the socket is closed soon")
}

async fn logins_are_seen_and_ended_on_any_replica(redis: config::Redis) {
    let shared = TestDatabase::create().await;
    let (mut one, mut two) = (replica(&shared, &redis).await, replica(&shared, &redis).await);
    let ada = one.reader().await;
    let phone = sign_in(&one, &ada, "Phone/1", "203.0.113.1").await;
    let laptop = sign_in(&two, &ada, "Laptop/1", "2001:db8::1").await;
    let all = [
        known("-", "127.0.0.1"),
        known("Laptop/1", "2001:db8::1"),
        known("Phone/1", "203.0.113.1"),
    ];
    for app in [&one, &two] {
        until("each is known everywhere", async || seen(app, &ada).await == all).await;
    }
    // Moved, and with another version.
    let phone = refresh(&two, &phone, "Phone/2", "203.0.113.2").await;
    let moved = known("Phone/2", "203.0.113.2");
    until("it was seen elsewhere", async || seen(&one, &ada).await.contains(&moved)).await;

    let id = id_of(&one, &phone).await;
    assert_eq!(id, id_of(&two, &phone).await);
    let mut socket = Socket::hello(&two, &phone).await;
    let mut other = Socket::hello(&two, &laptop).await;
    assert_eq!(end(&one, &laptop, &format!("/users/me/logins/{id}")).await, 204);
    assert_eq!(status(&one, &phone).await, 401, "here at once");
    assert_eq!(closed(&mut socket).await, Some(4500));
    assert_eq!(status(&two, &phone).await, 401);
    let body = json!({ "refresh_token": phone.refresh });
    let refused = send(two.request(Method::POST, "/auth/refresh").json(&body)).await;
    refused.is_error(401, "invalid_token");
    assert_eq!(other.ask(json!({ "type": "ping" })).await["type"], "pong");
    assert!(list(&two, &laptop).await.iter().all(|login| login["id"] != *id));

    let tablet = sign_in(&two, &ada, "Tablet/1", "203.0.113.3").await;
    assert_eq!(end(&two, &tablet, "/users/me/logins?keep_current=true").await, 204);
    assert_eq!(closed(&mut other).await, Some(4500));
    until("the others are out on the other replica", async || {
        status(&one, &ada).await == 401 && status(&one, &laptop).await == 401
    })
    .await;
    assert_eq!((status(&one, &tablet).await, status(&two, &tablet).await), (200, 200));
    until("one is left", async || seen(&one, &tablet).await == [known("Tablet/1", "203.0.113.3")])
        .await;
    assert_eq!(end(&one, &tablet, "/users/me/logins").await, 204);
    assert_eq!(status(&one, &tablet).await, 401);
    until("nobody is left", async || status(&two, &tablet).await == 401).await;
    let again = sign_in(&two, &ada, "Phone/3", "203.0.113.4").await;
    assert_eq!((status(&one, &again).await, list(&one, &again).await.len()), (200, 1));
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_seen_and_ended_on_any_replica_through_redis() {
    logins_are_seen_and_ended_on_any_replica(server()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_seen_and_ended_on_any_replica_through_a_cluster() {
    logins_are_seen_and_ended_on_any_replica(cluster()).await;
}

async fn health(app: &App) -> Value {
    let answer = send(app.request(Method::GET, "/health")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_logins_go_on_and_are_all_listed() {
    let mut redis = OwnServer::start().await;
    let config = config::Redis { response_timeout: Duration::from_millis(500), ..redis.config() };
    let mut app = App::start_with(|all| all.redis = config).await;
    let ada = app.reader().await;
    let phone = sign_in(&app, &ada, "Phone/1", "").await;
    until("it is known", async || seen(&app, &ada).await.len() == 2).await;
    let body = health(&app).await;
    assert_eq!(
        (&body["status"], &body["dependencies"]["redis"]["status"]),
        (&json!("ok"), &json!("up"))
    );

    redis.freeze(true);
    let tablet = sign_in(&app, &ada, "Tablet/1", "").await;
    let phone = refresh(&app, &phone, "Phone/2", "").await;
    let frozen = list(&app, &phone).await;
    assert_eq!(frozen.len(), 3, "{frozen:?}");
    until("health knows", async || {
        let body = health(&app).await;
        body["status"] == "degraded" && body["dependencies"]["redis"]["status"] == "down"
    })
    .await;
    redis.freeze(false);
    until("health knows again", async || health(&app).await["status"] == "ok").await;

    redis.kill();
    let car = sign_in(&app, &ada, "Car/1", "").await;
    assert_eq!(list(&app, &car).await.len(), 4);
    let id = id_of(&app, &tablet).await;
    assert_eq!(end(&app, &car, &format!("/users/me/logins/{id}")).await, 204);
    assert_eq!((status(&app, &tablet).await, list(&app, &car).await.len()), (401, 3));
    until("health knows", async || {
        let body = health(&app).await;
        let dependencies = &body["dependencies"];
        body["status"] == "degraded"
            && dependencies["redis"]["status"] == "down"
            && dependencies["event_log"]["status"] == "down"
            && dependencies["sqlite"]["status"] == "up"
    })
    .await;

    redis.start_again().await;
    // It forgot what it had been told, and is told what it was not.
    until("the newest is known", async || {
        let seen = seen(&app, &car).await;
        seen.len() == 3 && seen.contains(&known("Car/1", "127.0.0.1"))
    })
    .await;
    refresh(&app, &phone, "Phone/3", "").await;
    until("a refresh makes a login known again", async || {
        seen(&app, &car).await.contains(&known("Phone/3", "127.0.0.1"))
    })
    .await;
    assert_eq!(list(&app, &car).await.len(), 3, "nothing was hidden");
    until("all is well", async || health(&app).await["status"] == "ok").await;
    app.stop().await;
}
