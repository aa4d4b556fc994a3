//! The one error shape, on what the framework refuses by itself as well; request ids; browsers of other origins.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::super::support::app::App;
use super::{Answer, send};

#[tokio::test(flavor = "multi_thread")]
async fn the_frameworks_own_refusals_have_our_shape() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let post = |path: &str| app.request(Method::POST, path).bearer_auth(&reader.token);
    let json = |path: &str, body: &str| {
        send(post(path).header("content-type", "application/json").body(body.to_owned()))
    };
    send(app.request(Method::GET, "/nothing/here")).await.is_error(404, "not_found");
    send(app.http.get(format!("{}/nothing", app.base))).await.is_error(404, "not_found");
    send(app.request(Method::GET, "/scenarios/%FF").bearer_auth(&reader.token))
        .await
        .is_error(404, "not_found");
    let method = send(app.request(Method::PUT, "/scenarios")).await;
    method.is_error(405, "method_not_allowed");
    assert!(method.header("allow").unwrap().contains("POST"), "{method:?}");
    let turns = format!("/scenarios/{}/turns", Uuid::now_v7());
    for path in ["/auth/register", "/auth/login", "/auth/refresh", "/scenarios", &turns] {
        json(path, "{").await.is_error(400, "invalid_request");
        json(path, "").await.is_error(400, "invalid_request");
        json(path, "[]").await.is_error(422, "invalid_request");
        json(path, "{}").await.is_error(422, "invalid_request");
        let plain = send(post(path).header("content-type", "text/plain").body("{}")).await;
        plain.is_error(415, "unsupported_media_type");
        let bare = send(post(path).body("{}")).await;
        bare.is_error(415, "unsupported_media_type");
        let long = format!("{{\"prompt\":\"{}\"}}", "x".repeat(262_144));
        json(path, &long).await.is_error(413, "payload_too_large");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_is_bounded_too() {
    let mut app = App::start().await;
    let mut stream = TcpStream::connect(app.replica().address).await.unwrap();
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let (mut read, mut write) = stream.split();
    let writing = async {
        // The server may hang up before it has read everything.
        for _ in 0..8 {
            if write.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
    };
    let mut answer = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = read.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
        }
    };
    tokio::join!(writing, reading);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("payload_too_large"), "{answer}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_is_taken_over_if_it_is_sound() {
    let mut app = App::start().await;
    let ask = |id: &str| {
        let bytes = reqwest::header::HeaderValue::from_bytes(id.as_bytes()).unwrap();
        send(app.request(Method::GET, "/users/me").header("X-Request-ID", bytes))
    };
    let longest = "r".repeat(128);
    for good in ["a", "trace-1/2:3", "~!#", &longest] {
        let answer = ask(good).await;
        answer.is_error(401, "unauthenticated");
        assert_eq!(answer.header("x-request-id"), Some(good));
    }
    for bad in ["", "two words", "tab\there", "é", &"r".repeat(129)] {
        let answer = ask(bad).await;
        answer.is_error(401, "unauthenticated");
        let made = answer.header("x-request-id").unwrap();
        assert!(Uuid::parse_str(made).is_ok(), "{bad:?} became {made}");
    }
    let fine = send(app.request(Method::GET, "/health").header("X-Request-ID", "ok-1")).await;
    assert_eq!(fine.header("x-request-id"), Some("ok-1"));
    app.stop().await;
}

async fn preflight(app: &App, origin: &str) -> Answer {
    let request = app.request(Method::OPTIONS, "/scenarios").header("origin", origin);
    let wanted = "authorization,content-type,idempotency-key,x-request-id";
    let request = request.header("access-control-request-method", "POST");
    send(request.header("access-control-request-headers", wanted)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_of_any_origin_may_call_by_default() {
    let mut app = App::start().await;
    let answer = preflight(&app, "https://play.example").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let methods = answer.header("access-control-allow-methods").unwrap();
    assert!(["GET", "POST", "PATCH", "DELETE"].iter().all(|m| methods.contains(m)), "{methods}");
    let headers = answer.header("access-control-allow-headers").unwrap();
    for header in ["authorization", "content-type", "idempotency-key", "last-event-id"] {
        assert!(headers.contains(header), "{headers}");
    }
    let refused = app.request(Method::GET, "/users/me").header("origin", "https://play.example");
    let refused = send(refused).await;
    refused.is_error(401, "unauthenticated");
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "errors are readable too");
    let exposed = refused.header("access-control-expose-headers").unwrap();
    assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{exposed}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn configured_origins_are_the_only_ones() {
    let ours = "https://play.example";
    let mut app = App::start_with(|config| config.server.origins = vec![ours.into()]).await;
    let answer = preflight(&app, ours).await;
    assert_eq!(answer.header("access-control-allow-origin"), Some(ours));
    let answer = preflight(&app, "https://evil.example").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let upgrade = app.request(Method::GET, "/ws").header("origin", "https://evil.example");
    send(upgrade).await.is_error(403, "insufficient_permissions");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_to_come_say_that_they_are_not_there() {
    let mut app = App::start().await;
    for path in ["/shares", "/shares/x", "/videos", "/narrations/x", "/social/x/y", "/feed"] {
        for method in [Method::GET, Method::POST] {
            send(app.request(method, path)).await.is_error(503, "service_unavailable");
        }
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_ended() {
    let mut app = App::start_with(|config| {
        config.server.request_timeout = std::time::Duration::ZERO;
    })
    .await;
    let body = json!({ "email": "ada@example.org", "password": "a long password" });
    let login = send(app.request(Method::POST, "/auth/login").json(&body)).await;
    login.is_error(504, "timeout");
    app.stop().await;
}
