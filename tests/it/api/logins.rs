use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::support::app::{App, PASSWORD, Reader};
use super::{Answer, send};

/// Signs `reader` in once more, on a device of that name.
async fn sign_in(app: &App, reader: &Reader, device: &str) -> Reader {
    let body = json!({ "email": reader.email, "password": PASSWORD });
    let request = app.request(Method::POST, "/auth/login").header("user-agent", device);
    let answer = send(request.json(&body)).await;
    let text = |name: &str| answer.body[name].as_str().unwrap().to_owned();
    Reader { token: text("access_token"), refresh: text("refresh_token"), ..reader.clone() }
}

async fn list(app: &App, reader: &Reader) -> Vec<Value> {
    let answer = app.call(reader, Method::GET, "/users/me/logins", None).await;
    assert_eq!((answer.status, &answer.body["more"]), (200, &json!(false)));
    answer.body["items"].as_array().unwrap().clone()
}

async fn end(app: &App, reader: &Reader, path: &str) -> Answer {
    app.call(reader, Method::DELETE, &format!("/users/me/logins{path}"), None).await
}

async fn status(app: &App, reader: &Reader) -> u16 {
    app.call(reader, Method::GET, "/users/me", None).await.status
}

fn id<'a>(list: &'a [Value], device: &str) -> &'a str {
    list.iter().find(|login| login["device"] == *device).unwrap()["id"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_listed_with_what_is_known_of_it() {
    let mut app = App::start().await;
    let ada = app.reader().await;
    let browser = sign_in(&app, &ada, "  Browser/5.0\t(X11)  ").await;
    let listed = list(&app, &browser).await;
    insta::assert_json_snapshot!(listed[0], {
        ".id" => "[uuid]", ".created_at" => "[time]", ".last_used_at" => "[time]", ".expires_at" => "[time]",
    }, @r#"
    {
      "address": "127.0.0.1",
      "created_at": "[time]",
      "current": true,
      "device": "Browser/5.0 (X11)",
      "expires_at": "[time]",
      "id": "[uuid]",
      "last_used_at": "[time]"
    }
    "#);
    assert_eq!((listed.len(), &listed[1]["current"]), (2, &json!(false)));
    let others = list(&app, &ada).await;
    assert!(others.iter().all(|login| login["current"] == (login["device"] == Value::Null)));
    assert!(list(&app, &app.reader().await).await.len() == 1, "nobody else's");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn using_a_token_is_a_use_of_its_login_alone() {
    let mut app = App::start_with(|config| {
        config.logins.touch_every = std::time::Duration::from_millis(1);
    })
    .await;
    let ada = app.reader().await;
    let phone = sign_in(&app, &ada, "Phone/1").await;
    let used = async |device: &str| {
        let list = list(&app, &ada).await;
        let login = list.iter().find(|login| login["device"] == *device).unwrap().clone();
        ["last_used_at", "expires_at"].map(|name| {
            let time = login[name].as_str().unwrap();
            time.parse::<jiff::Timestamp>().unwrap()
        })
    };
    let [before, expires] = used("Phone/1").await;
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert_eq!(used("Phone/1").await, [before, expires], "nobody used it");
    assert_eq!(status(&app, &phone).await, 200);
    let [after, still] = used("Phone/1").await;
    assert!(after > before, "{after} {before}");
    assert_eq!(still, expires, "a use prolongs nothing");
    app.stop().await;
}

/// The embedded store of logins ends with the process; logins do not.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_devices_and_no_login() {
    let mut app = App::start().await;
    let ada = app.reader().await;
    let phone = sign_in(&app, &ada, "Phone/1").await;
    app.restart().await;
    let listed = list(&app, &phone).await;
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|login| login["device"].is_null()), "{listed:?}");
    let body = json!({ "refresh_token": phone.refresh });
    let request = app.request(Method::POST, "/auth/refresh").header("user-agent", "Phone/2");
    assert_eq!(send(request.json(&body)).await.status, 200);
    assert_eq!(list(&app, &phone).await[0]["device"], "Phone/2");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_once_and_only_for_its_owner() {
    let mut app = App::start().await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let phone = sign_in(&app, &ada, "Phone/1").await;
    let listed = list(&app, &ada).await;
    let path = format!("/{}", id(&listed, "Phone/1"));
    end(&app, &bob, &path).await.is_error(404, "not_found");
    for nobodys in [Uuid::now_v7().to_string(), "x".into(), "00".into()] {
        end(&app, &ada, &format!("/{nobodys}")).await.is_error(404, "not_found");
    }
    assert_eq!(status(&app, &phone).await, 200);
    for _ in 0..2 {
        let ended = end(&app, &ada, &path).await;
        assert_eq!((ended.status, &*ended.text), (204, ""));
    }
    end(&app, &bob, &path).await.is_error(404, "not_found");
    app.call(&phone, Method::GET, "/users/me", None).await.is_error(401, "invalid_token");
    let body = json!({ "refresh_token": phone.refresh });
    let refused = send(app.request(Method::POST, "/auth/refresh").json(&body)).await;
    refused.is_error(401, "invalid_token");
    assert_eq!((status(&app, &ada).await, list(&app, &ada).await.len()), (200, 1));
    // The one that asks may go, too.
    let own = list(&app, &ada).await[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(end(&app, &ada, &format!("/{own}")).await.status, 204);
    end(&app, &ada, &format!("/{own}")).await.is_error(401, "invalid_token");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_logins_end_or_all_others() {
    let mut app = App::start().await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let (phone, tablet) =
        (sign_in(&app, &ada, "Phone/1").await, sign_in(&app, &ada, "Tablet/1").await);
    end(&app, &phone, "?keep_current=perhaps").await.is_error(400, "invalid_request");
    assert_eq!(status(&app, &tablet).await, 200);
    for _ in 0..2 {
        assert_eq!(end(&app, &phone, "?keep_current=true").await.status, 204);
        let statuses = [&ada, &phone, &tablet, &bob].map(|reader| status(&app, reader));
        assert_eq!(futures::future::join_all(statuses).await, [401, 200, 401, 200]);
    }
    assert_eq!(list(&app, &phone).await.len(), 1);
    let tablet = sign_in(&app, &ada, "Tablet/1").await;
    assert_eq!(end(&app, &phone, "?keep_current=false").await.status, 204);
    let statuses = [&phone, &tablet, &bob].map(|reader| status(&app, reader));
    assert_eq!(futures::future::join_all(statuses).await, [401, 401, 200]);
    let again = sign_in(&app, &ada, "Phone/2").await;
    assert_eq!(list(&app, &again).await.len(), 1);
    app.stop().await;
}

/// What a log-out ends is no longer listed, and neither is a login whose refresh token was used twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_ends_otherwise_is_not_listed_either() {
    let mut app = App::start().await;
    let ada = app.reader().await;
    let (phone, tablet) =
        (sign_in(&app, &ada, "Phone/1").await, sign_in(&app, &ada, "Tablet/1").await);
    let post = |path: &str, token: &str| {
        send(app.request(Method::POST, path).json(&json!({ "refresh_token": token })))
    };
    assert_eq!(post("/auth/logout", &phone.refresh).await.status, 204);
    assert_eq!(list(&app, &ada).await.len(), 2);
    let first = post("/auth/refresh", &tablet.refresh).await;
    post("/auth/refresh", first.body["refresh_token"].as_str().unwrap()).await;
    post("/auth/refresh", &tablet.refresh).await.is_error(401, "invalid_token");
    assert_eq!(list(&app, &ada).await.len(), 1);
    app.stop().await;
}
