use reqwest::Method;
use serde_json::{Value, json};

use super::super::support::app::{App, PASSWORD};
use super::{Answer, send};

async fn post(app: &App, path: &str, body: Value) -> Answer {
    send(app.request(Method::POST, path).json(&body)).await
}

fn token(answer: &Answer) -> Value {
    answer.body["refresh_token"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_gives_tokens_and_the_user() {
    let mut app = App::start().await;
    let body = json!({ "email": "Ada@Example.org", "password": PASSWORD, "display_name": " Ada " });
    let answer = post(&app, "/auth/register", body).await;
    assert_eq!(answer.status, 201);
    insta::assert_json_snapshot!(answer.body, {
        ".access_token" => "[jwt]",
        ".refresh_token" => "[token]",
        ".user.id" => "[uuid]",
        ".user.created_at" => "[time]",
        ".user.updated_at" => "[time]",
    }, @r#"
    {
      "access_token": "[jwt]",
      "expires_in": 900,
      "refresh_token": "[token]",
      "token_type": "Bearer",
      "user": {
        "created_at": "[time]",
        "display_name": "Ada",
        "email": "Ada@Example.org",
        "id": "[uuid]",
        "role": "reader",
        "updated_at": "[time]"
      }
    }
    "#);
    let again = json!({ "email": "ada@example.ORG", "password": PASSWORD, "display_name": "B" });
    post(&app, "/auth/register", again).await.is_error(409, "conflict");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_registration_names_every_bad_field() {
    let mut app = App::start().await;
    let body = json!({ "email": "ada", "password": "short", "display_name": " " });
    let answer = post(&app, "/auth/register", body).await;
    answer.is_error(422, "invalid_request");
    insta::assert_json_snapshot!(answer.body["details"], @r#"
    [
      {
        "field": "email",
        "message": "is not an e-mail address"
      },
      {
        "field": "password",
        "message": "must have at least 8 characters"
      },
      {
        "field": "display_name",
        "message": "must not be empty"
      }
    ]
    "#);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_needs_the_password_and_tells_nobody_who_has_an_account() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let login = |email: &str, password: &str| {
        let body = json!({ "email": email, "password": password });
        let request = app.request(Method::POST, "/auth/login").json(&body);
        send(request)
    };
    let answer = login(&reader.email, PASSWORD).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["user"]["id"], json!(reader.id));
    let wrong = login(&reader.email, "not the password").await;
    let nobody = login("nobody@example.org", PASSWORD).await;
    wrong.is_error(401, "unauthenticated");
    nobody.is_error(401, "unauthenticated");
    assert_eq!(wrong.body["message"], nobody.body["message"]);
    assert_eq!(wrong.header("www-authenticate"), Some("Bearer"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_account_is_told_only_to_who_knows_its_password() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let id = reader.id.parse().unwrap();
    assert!(app.replica().state().users.set_suspended(id, true).await.unwrap());
    let right = json!({ "email": reader.email, "password": PASSWORD });
    post(&app, "/auth/login", right).await.is_error(403, "insufficient_permissions");
    let wrong = json!({ "email": reader.email, "password": "not the password" });
    post(&app, "/auth/login", wrong).await.is_error(401, "unauthenticated");
    let refresh = json!({ "refresh_token": reader.refresh });
    post(&app, "/auth/refresh", refresh).await.is_error(403, "insufficient_permissions");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_rotates_and_an_old_token_ends_the_login() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let refresh = |token: Value| post(&app, "/auth/refresh", json!({ "refresh_token": token }));
    let first = json!(reader.refresh);
    let second = refresh(first.clone()).await;
    assert_eq!(second.status, 200);
    assert!(second.body.get("user").is_none(), "{second:?}");
    assert_ne!(token(&second), first);
    // The answer may have been lost on its way: the same again.
    assert_eq!(token(&refresh(first.clone()).await), token(&second));
    let third = refresh(token(&second)).await;
    assert_eq!(third.status, 200);
    // Two behind: somebody else has it.
    refresh(first).await.is_error(401, "invalid_token");
    refresh(token(&third)).await.is_error(401, "invalid_token");
    refresh(json!("nonsense")).await.is_error(401, "invalid_token");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_its_own_login_only_and_may_be_repeated() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let login = json!({ "email": reader.email, "password": PASSWORD });
    let other = post(&app, "/auth/login", login).await;
    for _ in 0..2 {
        let answer = post(&app, "/auth/logout", json!({ "refresh_token": reader.refresh })).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    let ended = json!({ "refresh_token": reader.refresh });
    post(&app, "/auth/refresh", ended).await.is_error(401, "invalid_token");
    let refreshed = post(&app, "/auth/refresh", json!({ "refresh_token": token(&other) })).await;
    assert_eq!(refreshed.status, 200);
    app.stop().await;
}
