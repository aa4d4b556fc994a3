//! A whole replica of whatif on PostgreSQL.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use whatif::config::Config;

use super::super::process::whatif;
use super::super::support::app::{App, PASSWORD, Reader};
use super::super::support::postgres::{Server, Stop, TestDatabase, config};
use super::eventually;

fn on(url: &str) -> impl FnOnce(&mut Config) {
    let database = config(url);
    move |config| {
        config.database = database;
        config.auth.jwt_secret = Some("0123456789abcdef0123456789abcdef".into());
    }
}

/// Status, `Retry-After` and body of a login.
async fn login(app: &App, reader: &Reader) -> (StatusCode, Option<u64>, Value) {
    let body = json!({ "email": reader.email, "password": PASSWORD });
    let answer = app.request(Method::POST, "/auth/login").json(&body).send().await.unwrap();
    let retry = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let retry = retry.map(|seconds| seconds.parse().unwrap());
    (answer.status(), retry, answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_users_and_kept_answers() {
    let database = TestDatabase::create().await;
    let mut one = App::start_with(on(database.url())).await;
    let mut two = App::start_with(on(database.url())).await;
    let ada = one.reader().await;
    assert!(!one.folder().join("users.db").exists() && !one.folder().join("answers.db").exists());
    assert_eq!(login(&two, &ada).await.0, 200);
    let (status, me) = two.ask(&ada, Method::GET, "/users/me", None).await;
    assert_eq!((status, &me["id"]), (200, &json!(ada.id)));
    let refreshed = |app: &App| {
        let body = json!({ "refresh_token": ada.refresh });
        app.request(Method::POST, "/auth/refresh").json(&body).send()
    };
    let first: Value = refreshed(&one).await.unwrap().json().await.unwrap();
    let second: Value = refreshed(&two).await.unwrap().json().await.unwrap();
    assert!(first["refresh_token"].is_string());
    assert_eq!(first["refresh_token"], second["refresh_token"], "the sealed successor opens there");
    let body = json!({ "email": "twice@example.org", "password": PASSWORD, "display_name": "Ada" });
    let register = |app: &App| {
        let request = app.request(Method::POST, "/auth/register");
        request.header("idempotency-key", "once").json(&body).send()
    };
    let first = register(&one).await.unwrap();
    assert_eq!(first.status(), 201);
    let again = register(&two).await.unwrap();
    assert_eq!(again.status(), 201);
    assert_eq!(first.text().await.unwrap(), again.text().await.unwrap());
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_whatif_says_when_to_come_back_and_goes_on_with_the_rest() {
    let mut server = Server::start().await;
    let mut app = App::start_with(on(&server.url())).await;
    let ada = app.reader().await;
    let scenario = app.scenario(&ada, "What if Rome never fell?").await;
    server.stop(Stop::Fast).await;

    // Until enough has failed each request finds out for itself; then the circuit answers in the database's place.
    let circuit = async |app: &App| {
        let health: Value = app
            .http
            .get(format!("{}/health", app.base))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let pool = &health["services"]["user"]["dependencies"]["user.database"]["circuit"];
        (health["status"].as_str().unwrap().to_owned(), pool.as_str().unwrap().to_owned())
    };
    eventually("the circuit opens", async || {
        let rush = futures::future::join_all((0..8).map(|_| login(&app, &ada))).await;
        for (status, retry, body) in rush {
            assert_eq!(
                (status.as_u16(), &body["error"]),
                (503, &json!("service_unavailable")),
                "{body}"
            );
            assert!(retry.is_some_and(|seconds| seconds >= 1), "{body}");
        }
        circuit(&app).await.1 != "closed"
    })
    .await;
    let (status, pool) = circuit(&app).await;
    assert!(status == "down" && (pool == "open" || pool == "half_open"), "{status} {pool}");
    assert_eq!(app.ask(&ada, Method::GET, "/users/me", None).await.0, 503);

    // A valid access token needs no database.
    let (status, list) = app.ask(&ada, Method::GET, "/scenarios", None).await;
    assert_eq!((status, &list["items"][0]["id"]), (200, &scenario["id"]), "{list}");
    let new = app.scenario(&ada, "What if the sea were sweet?").await;
    let path = format!("/scenarios/{}", new["id"].as_str().unwrap());
    eventually("a new scene is told", async || {
        let (status, scenario) = app.ask(&ada, Method::GET, &path, None).await;
        assert_eq!(status, 200);
        !scenario["current_scene"].is_null()
    })
    .await;

    server.resume().await;
    eventually("logins work again", async || login(&app, &ada).await.0 == 200).await;
    eventually("all is well", async || circuit(&app).await == ("ok".into(), "closed".into())).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_tell_of_the_database_and_keep_its_password() {
    let database = TestDatabase::create().await;
    let url = database.url().replacen("postgres@", "postgres:hush-hush@", 1);
    let place = url.split('@').next_back().unwrap().split('?').next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let run = async |arguments: &[&str], secret: &str| {
        let mut command = whatif(folder.path(), arguments);
        command.env("DATABASE_URL", &url).env("JWT_SECRET", secret);
        let output = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let secret = "0123456789abcdef0123456789abcdef";
    for _ in 0..2 {
        let (done, out, err) = run(&["migrate"], secret).await;
        assert!(done && out.contains(&format!("PostgreSQL {place}: up to date")), "{out}{err}");
        assert!(!out.contains("users.db") && !err.contains("hush"), "{out}{err}");
    }
    let (done, out, _) = run(&["config", "check"], secret).await;
    assert!(done && out.contains(&format!("PostgreSQL at {place}")), "{out}");
    assert!(!out.contains("hush"), "{out}");
    for command in [&["serve"][..], &["migrate"], &["config", "check"]] {
        let (done, _, err) = run(command, "").await;
        assert!(!done && err.lines().count() == 1 && err.contains("JWT_SECRET"), "{err}");
    }
}
