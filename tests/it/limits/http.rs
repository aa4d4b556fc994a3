//! What callers see of their limits.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use whatif::config::Limits;

use super::super::api::{Answer, send};
use super::super::support::app::{App, PASSWORD};
use super::super::support::socket::Socket;

/// `RateLimit-Limit`, `-Remaining` and `-Reset`.
fn told(headers: &HeaderMap) -> Option<[u64; 3]> {
    let number = |name: &str| Some(headers.get(name)?.to_str().unwrap().parse().unwrap());
    Some([number("ratelimit-limit")?, number("ratelimit-remaining")?, number("ratelimit-reset")?])
}

async fn limited(change: impl FnOnce(&mut Limits)) -> App {
    App::start_with(|config| change(&mut config.limits)).await
}

#[track_caller]
fn is_refused(answer: &Answer, limit: u64) {
    answer.is_error(429, "rate_limited");
    let [told_limit, remaining, reset] = told(&answer.headers).expect("limits are told");
    assert_eq!((told_limit, remaining), (limit, 0));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait) && reset >= wait, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_told_what_is_left_and_stopped_at_the_end_of_it() {
    let mut app = limited(|limits| limits.per_user = 5).await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    for left in (0..5).rev() {
        let answer = app.call(&ada, Method::GET, "/users/me", None).await;
        assert_eq!(answer.status, 200);
        let [limit, remaining, reset] = told(&answer.headers).unwrap();
        assert_eq!((limit, remaining), (5, left));
        assert!((1..=60).contains(&reset), "{reset}");
    }
    is_refused(&app.call(&ada, Method::GET, "/users/me", None).await, 5);
    is_refused(&app.call(&ada, Method::GET, "/scenarios", None).await, 5);
    let answer = app.call(&bob, Method::GET, "/users/me", None).await;
    assert_eq!((answer.status, told(&answer.headers).unwrap()[1]), (200, 4), "another user");
    let unsigned = send(app.request(Method::GET, "/users/me")).await;
    unsigned.is_error(401, "unauthenticated");
    assert!(told(&unsigned.headers).is_some(), "strangers have a limit as well");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_never_refused_and_other_origins_may_read_the_headers() {
    let mut app = limited(|limits| limits.per_address = 1).await;
    let docs = send(app.request(Method::GET, "/openapi.json")).await;
    assert_eq!(docs.status, 200);
    for _ in 0..3 {
        for path in ["/health", "/api/v1/health", "/health/live", "/api/v1/health/ready"] {
            let answer = send(app.http.get(format!("{}{path}", app.base))).await;
            assert_eq!((answer.status, told(&answer.headers)), (200, None), "{path}");
        }
    }
    let request = app.request(Method::GET, "/providers").header("origin", "https://a.example");
    let refused = send(request).await;
    is_refused(&refused, 1);
    let exposed = refused.header("access-control-expose-headers").unwrap();
    for name in ["retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    is_refused(&send(app.request(Method::GET, "/nothing")).await, 1);
    let preflight = app
        .request(Method::OPTIONS, "/scenarios")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "POST");
    assert_eq!(send(preflight).await.status, 200, "a browser's question before the question");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_the_peers_unless_a_trusted_proxy_says_otherwise() {
    for (trusted, forgeable) in [(&[][..], false), (&["127.0.0.0/8"][..], true)] {
        let mut app = App::start_with(|config| {
            config.limits.per_address = 1;
            config.server.trusted_proxies =
                trusted.iter().map(|network| network.parse().unwrap()).collect();
        })
        .await;
        let from = |address: &str| {
            let request = app.request(Method::GET, "/providers");
            request.header("x-forwarded-for", address)
        };
        let status = async |request: RequestBuilder| send(request).await.status;
        assert_eq!(status(from("2001:db8:1:2::1")).await, 401);
        assert_eq!(status(from("2001:db8:1:2:ffff::9")).await, 429, "the same network");
        let elsewhere = if forgeable { 401 } else { 429 };
        assert_eq!(status(from("198.51.100.1")).await, elsewhere);
        assert_eq!(
            status(from("192.0.2.9, 198.51.100.1")).await,
            429,
            "who is on the right counts"
        );
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_an_account_are_few_and_cost_others_nothing() {
    let mut app = limited(|limits| {
        limits.auth_per_account = 3;
        limits.auth_per_address = 9;
    })
    .await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let login = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        send(app.request(Method::POST, "/auth/login").json(&body))
    };
    // Her registration was the first.
    login(&ada.email, "a first guess").await.is_error(401, "unauthenticated");
    login(&ada.email, "a second guess").await.is_error(401, "unauthenticated");
    is_refused(&login(&ada.email, PASSWORD).await, 3);
    is_refused(&login(&ada.email.to_uppercase(), PASSWORD).await, 3);
    assert_eq!(login(&bob.email, PASSWORD).await.status, 200);
    // Nine from this address in all.
    let refresh = |token: &str| {
        let body = json!({ "refresh_token": token });
        send(app.request(Method::POST, "/auth/refresh").json(&body))
    };
    assert_eq!(refresh(&bob.refresh).await.status, 200);
    assert_eq!(refresh("nonsense").await.status, 401);
    is_refused(&refresh("nonsense").await, 9);
    is_refused(&login(&bob.email, PASSWORD).await, 9);
    assert_eq!(app.call(&bob, Method::GET, "/users/me", None).await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_are_limited_over_rest_and_sockets_together() {
    let mut app = limited(|limits| limits.turns_per_user = 3).await;
    let reader = app.reader().await;
    let (id, scene) = app.told(&reader).await;
    let path = format!("/scenarios/{id}/turns");
    let jump = json!({ "kind": "jump", "scene": scene["id"] });
    let answer = app.call(&reader, Method::POST, &path, Some(&jump)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(told(&answer.headers).unwrap()[..2], [3, 1]);
    app.until_idle().await;
    let mut socket = Socket::hello(&app, &reader).await;
    let command = json!({ "type": "jump", "scenario": id, "scene": scene["id"] });
    socket.turn(command.clone()).await;
    app.until_idle().await;
    assert_eq!(socket.refused(command).await, "rate_limited");
    is_refused(&app.call(&reader, Method::POST, &path, Some(&jump)).await, 3);
    let wish = json!({ "prompt": "What if?" });
    is_refused(&app.call(&reader, Method::POST, "/scenarios", Some(&wish)).await, 3);
    assert_eq!(app.call(&reader, Method::GET, "/scenarios", None).await.status, 200);
    let answer = socket.ask(json!({ "type": "attach", "scenario": id })).await;
    assert_eq!(answer["type"], "ack", "reading goes on");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_can_be_turned_off() {
    let mut app = limited(|limits| {
        limits.per_user = 1;
        limits.per_address = 1;
        limits.enabled = false;
    })
    .await;
    let reader = app.reader().await;
    for _ in 0..3 {
        let answer = app.call(&reader, Method::GET, "/users/me", None).await;
        assert_eq!((answer.status, told(&answer.headers)), (200, None));
    }
    app.stop().await;
}
