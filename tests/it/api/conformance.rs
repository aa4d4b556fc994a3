//! Every operation of the description is called for real, with success and with every refusal that it names; each
//! answer must be one that the description has, in the form that it has.

use std::collections::BTreeSet;
use std::sync::Mutex;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::support::app::{App, PASSWORD, Reader};
use super::super::support::raw_http::{RawHttp, Step};
use super::openapi::operations;
use super::{Answer, key, schema, send};

struct Contract {
    document: Value,
    seen: Mutex<BTreeSet<(String, String, u16)>>,
}

impl Contract {
    async fn of(app: &App) -> Self {
        let document = send(app.request(Method::GET, "/openapi.json")).await.body;
        Self { document, seen: Mutex::default() }
    }

    /// That the answer to `method` on `path` (as in the description, without the base) is a described one.
    fn check(&self, method: &str, path: &str, answer: &Answer) -> Result<(), String> {
        let path = format!("/api/v1{path}");
        let status = answer.status.to_string();
        let operation = &self.document["paths"][&path][method];
        let response = operation["responses"].get(&status);
        let response = response.ok_or_else(|| format!("{method} {path} has no {status}"))?;
        let kind = answer.header("content-type").map(|kind| kind.split(';').next().unwrap());
        match (response.get("content").and_then(Value::as_object), kind) {
            (None, _) if answer.text.is_empty() => {}
            (None, _) => return Err(format!("{method} {path} {status} has a body")),
            (Some(content), Some(kind)) if content.contains_key(kind) => {
                let value = match kind {
                    "application/json" => answer.body.clone(),
                    _ => json!(answer.text),
                };
                schema::check(&self.document, &content[kind]["schema"], &value)
                    .map_err(|error| format!("{method} {path} {status}: {error}"))?;
            }
            (Some(_), other) => return Err(format!("{method} {path} {status} is {other:?}")),
        }
        if answer.header("ratelimit-limit").is_none() != path.contains("/health") {
            return Err(format!("{method} {path} {status} is limited otherwise"));
        }
        if answer.status >= 400 && !path.contains("/health") {
            answer.is_error(answer.status, answer.body["error"].as_str().unwrap_or_default());
        }
        self.seen.lock().unwrap().insert((path, method.into(), answer.status));
        Ok(())
    }

    #[track_caller]
    fn expect(&self, method: &str, path: &str, status: u16, answer: &Answer) {
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        self.check(method, path, answer).unwrap();
    }

    /// What is described and was not called.
    fn unseen(&self) -> BTreeSet<String> {
        let seen = self.seen.lock().unwrap();
        let described = operations(&self.document).flat_map(|(path, verb, operation)| {
            let statuses = operation["responses"].as_object().unwrap().keys();
            statuses.map(move |status| (path.to_owned(), verb.to_owned(), status.parse().unwrap()))
        });
        let unseen = described.filter(|called| !seen.contains(called));
        // A failure of ours must not happen, only what hashes is slow enough to be late every time, and an upgrade has
        // tests of its own.
        unseen
            .filter(|(_, _, status)| !matches!(status, 500 | 504 | 101))
            .map(|(path, verb, status)| format!("{verb} {path} {status}"))
            .collect()
    }
}

/// One operation with everything that a request for it needs.
struct Operation {
    method: &'static str,
    path: &'static str,
    body: Option<Value>,
    signed: bool,
}

const fn operation(method: &'static str, path: &'static str, signed: bool) -> Operation {
    Operation { method, path, body: None, signed }
}

fn all() -> Vec<Operation> {
    let body = |body: Value, operation: Operation| Operation { body: Some(body), ..operation };
    let account =
        json!({ "email": "ada@example.org", "password": PASSWORD, "display_name": "Ada" });
    let login = json!({ "email": "ada@example.org", "password": PASSWORD });
    // Well-formed, so that the store has to be asked.
    let token = json!({ "refresh_token": "" });
    vec![
        body(account, operation("post", "/auth/register", false)),
        body(login, operation("post", "/auth/login", false)),
        body(token.clone(), operation("post", "/auth/refresh", false)),
        body(token, operation("post", "/auth/logout", false)),
        operation("get", "/users/me", true),
        operation("get", "/users/me/usage", true),
        operation("get", "/users/me/logins", true),
        operation("delete", "/users/me/logins/{id}", true),
        operation("delete", "/users/me/logins", true),
        operation("get", "/providers", true),
        body(json!({ "prompt": "What if?" }), operation("post", "/scenarios", true)),
        operation("get", "/scenarios", true),
        operation("get", "/scenarios/{id}", true),
        operation("get", "/scenarios/{id}/tree", true),
        body(json!({ "favorite": true }), operation("patch", "/scenarios/{id}", true)),
        body(
            json!({ "kind": "jump", "scene": "n1" }),
            operation("post", "/scenarios/{id}/turns", true),
        ),
        operation("post", "/scenarios/{id}/turns/{turn}/stop", true),
        operation("get", "/scenarios/{id}/events", true),
        body(
            json!({ "scenario": "", "message": "Who rules?" }),
            operation("post", "/chat/stream", true),
        ),
        operation("delete", "/scenarios/{id}", true),
    ]
}

impl Operation {
    fn request(&self, app: &App, reader: &Reader, id: &str) -> RequestBuilder {
        let turn = Uuid::now_v7().to_string();
        let path = self.path.replace("{id}", id).replace("{turn}", &turn);
        let mut request = app.request(self.method.to_uppercase().parse().unwrap(), &path);
        if self.signed {
            request = request.bearer_auth(&reader.token);
        }
        match self.body.clone() {
            Some(mut body) => {
                if body.get("refresh_token").is_some() {
                    body["refresh_token"] = json!(reader.refresh);
                }
                if body.get("scenario").is_some() {
                    body["scenario"] = json!(id);
                }
                request.json(&body)
            }
            None => request,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_answer_is_given_for_real_and_no_other() {
    let mut app = App::start().await;
    let contract = Contract::of(&app).await;
    let reader = app.reader().await;
    let (id, _) = app.told(&reader).await;
    successes(&app, &contract, &reader, &id).await;
    refusals(&app, &contract, &reader, &id).await;
    suspended(&app, &contract, &id).await;
    limited(&contract).await;
    unpaid(&contract).await;
    overdue(&contract).await;
    blocked(&contract).await;
    unavailable(&app, &contract, &reader, &id).await;
    assert_eq!(contract.unseen(), BTreeSet::new(), "described, but never called");
    app.stop().await;
}

async fn successes(app: &App, contract: &Contract, reader: &Reader, id: &str) {
    let (doomed, _) = app.told(reader).await;
    for operation in all() {
        let caller = caller(app, &operation, reader).await;
        let id = match (operation.method, operation.path) {
            ("delete", path) if path.starts_with("/users") => login_of(app, &caller).await,
            ("delete", _) => doomed.clone(),
            _ => id.to_owned(),
        };
        // The stream does not end by itself, and the turn has to run: both follow.
        if operation.path.ends_with("/stop") || operation.path.ends_with("/events") {
            continue;
        }
        let answer = send(operation.request(app, &caller, &id)).await;
        let (method, path) = (operation.method, operation.path);
        let expected = match (method, path) {
            (_, "/auth/register") | ("post", "/scenarios") => 201,
            (_, "/auth/logout") | ("delete", _) => 204,
            (_, "/scenarios/{id}/turns") => 202,
            _ => 200,
        };
        contract.expect(method, path, expected, &answer);
    }
    for path in ["/health", "/health/live", "/health/ready"] {
        contract.expect("get", path, 200, &send(app.request(Method::GET, path)).await);
    }
    stream(app, contract, reader, id).await;
    stopped(contract).await;
}

/// Someone else where the operation uses a token up or ends the login that asks.
async fn caller(app: &App, operation: &Operation, reader: &Reader) -> Reader {
    let ends = operation.method == "delete" && operation.path.starts_with("/users");
    if operation.path.starts_with("/auth") || ends { app.reader().await } else { reader.clone() }
}

async fn login_of(app: &App, reader: &Reader) -> String {
    let list = app.call(reader, Method::GET, "/users/me/logins", None).await;
    list.body["items"][0]["id"].as_str().unwrap().to_owned()
}

async fn stream(app: &App, contract: &Contract, reader: &Reader, id: &str) {
    let request = app.request(Method::GET, &format!("/scenarios/{id}/events"));
    let mut response = request.bearer_auth(&reader.token).send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let first = response.chunk().await.unwrap().expect("something at once");
    let text = String::from_utf8(first.to_vec()).unwrap();
    let answer = Answer { status, headers, body: Value::Null, text };
    contract.expect("get", "/scenarios/{id}/events", 200, &answer);
}

async fn stopped(contract: &Contract) {
    let mut app = App::start_with(|config| {
        config.providers.storyteller.words_per_second = 5.0;
    })
    .await;
    let reader = app.reader().await;
    let begun = app.scenario(&reader, "What if?").await;
    let (id, turn) = (begun["id"].as_str().unwrap(), begun["turn"].as_str().unwrap());
    let path = format!("/scenarios/{id}/turns/{turn}/stop");
    let answer = app.call(&reader, Method::POST, &path, None).await;
    contract.expect("post", "/scenarios/{id}/turns/{turn}/stop", 202, &answer);
    app.stop().await;
}

async fn refusals(app: &App, contract: &Contract, reader: &Reader, id: &str) {
    let nobody = Reader { token: "x.y.z".into(), refresh: "nonsense".into(), ..reader.clone() };
    for operation in all() {
        let (method, path) = (operation.method, operation.path);
        if operation.signed {
            let answer = send(operation.request(app, &nobody, id)).await;
            contract.expect(method, path, 401, &answer);
        }
        if path.contains("{id}") {
            let answer = send(operation.request(app, reader, &Uuid::now_v7().to_string())).await;
            contract.expect(method, path, 404, &answer);
        }
        if operation.body.is_some() {
            for (kind, body, status) in [
                ("application/json", "{".to_owned(), 400),
                ("application/json", r#"{"prompt":1,"favorite":1}"#.into(), 422),
                ("text/plain", "{}".into(), 415),
                ("application/json", "x".repeat(262_145), 413),
            ] {
                let request = operation.request(app, reader, id);
                let mut request = request.build().unwrap();
                request.headers_mut().insert("content-type", kind.parse().unwrap());
                request.headers_mut().remove("content-length");
                *request.body_mut() = Some(body.into());
                let request = RequestBuilder::from_parts(app.http.clone(), request);
                contract.expect(method, path, status, &send(request).await);
            }
        }
    }
    let get = |path: &str| app.request(Method::GET, path).bearer_auth(&reader.token);
    let events = "/scenarios/{id}/events";
    let answer = send(get(&format!("/scenarios/{id}/events?after=x"))).await;
    contract.expect("get", events, 422, &answer);
    let answer = send(get(&format!("/scenarios/{id}/events?after=0&after=1"))).await;
    contract.expect("get", events, 400, &answer);
    contract.expect("get", "/users/me/usage", 422, &send(get("/users/me/usage?days=91")).await);
    contract.expect("get", "/users/me/usage", 400, &send(get("/users/me/usage?days=x")).await);
    contract.expect("get", "/scenarios", 422, &send(get("/scenarios?limit=0")).await);
    contract.expect("get", "/scenarios", 400, &send(get("/scenarios?limit=x")).await);
    let ending = app.request(Method::DELETE, "/users/me/logins?keep_current=x");
    let answer = send(ending.bearer_auth(&reader.token)).await;
    contract.expect("delete", "/users/me/logins", 400, &answer);
    let foreign = json!({ "scenario": Uuid::now_v7(), "message": "Who rules?" });
    let answer = app.call(reader, Method::POST, "/chat/stream", Some(&foreign)).await;
    contract.expect("post", "/chat/stream", 404, &answer);
    busy(contract).await;
    let taken = json!({ "email": reader.email, "password": PASSWORD, "display_name": "B" });
    let answer = send(app.request(Method::POST, "/auth/register").json(&taken)).await;
    contract.expect("post", "/auth/register", 409, &answer);
    let wrong = json!({ "email": reader.email, "password": "not the password" });
    let answer = send(app.request(Method::POST, "/auth/login").json(&wrong)).await;
    contract.expect("post", "/auth/login", 401, &answer);
    let nonsense = json!({ "refresh_token": "nonsense" });
    let answer = send(app.request(Method::POST, "/auth/refresh").json(&nonsense)).await;
    contract.expect("post", "/auth/refresh", 401, &answer);
    let key = key();
    app.post_once(reader, "/scenarios", &key, &json!({ "prompt": "a" })).await;
    let answer = app.post_once(reader, "/scenarios", &key, &json!({ "prompt": "b" })).await;
    contract.expect("post", "/scenarios", 409, &answer);
    app.until_idle().await;
    let told = app.call(reader, Method::GET, &format!("/scenarios/{id}"), None).await;
    let scene = told.body["current_scene"]["id"].clone();
    let turns = format!("/scenarios/{id}/turns");
    app.post_once(reader, &turns, &key, &json!({ "kind": "jump", "scene": scene })).await;
    let other = json!({ "kind": "retry", "scene": scene });
    let answer = app.post_once(reader, &turns, &key, &other).await;
    contract.expect("post", "/scenarios/{id}/turns", 409, &answer);
    contract.expect("get", "/ws", 400, &send(get("/ws")).await);
    let secret = "0123456789abcdef0123456789abcdef";
    let strict = |config: &mut whatif::config::Config| {
        config.server.origins = Vec::new();
        config.auth.jwt_secret = Some(secret.to_owned().into());
    };
    let mut other = App::start_with(strict).await;
    let foreign = other.request(Method::GET, "/ws").header("origin", "https://evil.example");
    contract.expect("get", "/ws", 403, &send(foreign).await);
    // A token outlives its account.
    let stranger = other.reader().await;
    other.stop().await;
    let mut empty = App::start_with(strict).await;
    let answer = empty.call(&stranger, Method::GET, "/users/me", None).await;
    contract.expect("get", "/users/me", 404, &answer);
    empty.stop().await;
}

/// A chat that is being answered in.
async fn busy(contract: &Contract) {
    let model = RawHttp::start(vec![vec![Step::Head, Step::text("So"), Step::Stall]]).await;
    let mut app = App::start_with(|config| {
        let vendor = config.providers.vendors.get_mut("openai").unwrap();
        vendor.base_url = Some(format!("{}/v1", model.url));
    })
    .await;
    let reader = app.reader().await;
    let question = json!({ "chat": Uuid::now_v7(), "message": "Who rules?" });
    let first = app.request(Method::POST, "/chat/stream").bearer_auth(&reader.token);
    let first = first.json(&question).send().await.unwrap();
    assert_eq!(first.status(), 200);
    let answer = app.call(&reader, Method::POST, "/chat/stream", Some(&question)).await;
    contract.expect("post", "/chat/stream", 409, &answer);
    drop(first);
    app.stop().await;
}

async fn suspended(app: &App, contract: &Contract, id: &str) {
    let reader = app.reader().await;
    let users = &app.replica().state().users;
    assert!(users.set_suspended(reader.id.parse().unwrap(), true).await.unwrap());
    let login = json!({ "email": reader.email, "password": PASSWORD });
    let answer = send(app.request(Method::POST, "/auth/login").json(&login)).await;
    contract.expect("post", "/auth/login", 403, &answer);
    let refresh = json!({ "refresh_token": reader.refresh });
    let answer = send(app.request(Method::POST, "/auth/refresh").json(&refresh)).await;
    contract.expect("post", "/auth/refresh", 403, &answer);
    for operation in all().into_iter().filter(|operation| operation.signed) {
        let answer = send(operation.request(app, &reader, id)).await;
        contract.expect(operation.method, operation.path, 403, &answer);
    }
}

/// One request a minute.
async fn limited(contract: &Contract) {
    let mut app = App::start_with(|config| config.limits.per_address = 1).await;
    let reader = app.reader().await;
    for operation in all() {
        let answer = send(operation.request(&app, &reader, "x")).await;
        contract.expect(operation.method, operation.path, 429, &answer);
    }
    contract.expect("get", "/ws", 429, &send(app.request(Method::GET, "/ws")).await);
    app.stop().await;
}

fn unreachable(config: &mut whatif::config::Config) {
    let vendor = config.providers.vendors.get_mut("openai").unwrap();
    vendor.base_url = Some("http://127.0.0.1:1/v1/".into());
    vendor.max_attempts = 1;
}

/// No money, and a model that costs some.
async fn unpaid(contract: &Contract) {
    let mut app = App::start_with(|config| {
        unreachable(config);
        config.budget.user_tokens = Some(0);
    })
    .await;
    let reader = app.reader().await;
    let wish = json!({ "prompt": "What if?" });
    let answer = app.call(&reader, Method::POST, "/scenarios", Some(&wish)).await;
    contract.expect("post", "/scenarios", 402, &answer);
    let question = json!({ "message": "Who rules?" });
    let answer = app.call(&reader, Method::POST, "/chat/stream", Some(&question)).await;
    contract.expect("post", "/chat/stream", 402, &answer);
    // The storyteller costs nothing.
    let wish = json!({ "prompt": "What if?", "provider": "storyteller" });
    let begun = app.call(&reader, Method::POST, "/scenarios", Some(&wish)).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    app.stop().await;
    // One call's worth: it is used up by the time that the next one is asked for.
    let mut app = App::start_with(|config| {
        unreachable(config);
        config.budget.scenario_tokens = Some(2_500);
    })
    .await;
    let reader = app.reader().await;
    let long = "What if Rome never fell? ".repeat(60);
    let begun = app.scenario(&reader, long.trim()).await;
    app.until_idle().await;
    let path = format!("/scenarios/{}/turns", begun["id"].as_str().unwrap());
    let say = json!({ "kind": "say", "scene": "n1", "text": "go on ".repeat(300).trim() });
    let answer = app.call(&reader, Method::POST, &path, Some(&say)).await;
    contract.expect("post", "/scenarios/{id}/turns", 402, &answer);
    app.stop().await;
}

/// Words that are not allowed: as described, under a code of its own.
async fn blocked(contract: &Contract) {
    let mut app = App::start_with(|config| {
        config.moderation.provider = whatif::config::Moderator::Wordlist;
        config.moderation.words = vec!["moloch".into()];
    })
    .await;
    let reader = app.reader().await;
    let (id, _) = app.told(&reader).await;
    for (method, path, body) in [
        (Method::POST, "/scenarios", json!({ "prompt": "What if Moloch came?" })),
        (Method::PATCH, "/scenarios/{id}", json!({ "title": "Moloch" })),
        (
            Method::POST,
            "/scenarios/{id}/turns",
            json!({ "kind": "say", "scene": "n1", "text": "Moloch!" }),
        ),
    ] {
        let answer =
            app.call(&reader, method.clone(), &path.replace("{id}", &id), Some(&body)).await;
        contract.expect(&method.as_str().to_lowercase(), path, 422, &answer);
        answer.is_error(422, "content_blocked");
    }
    app.stop().await;
}

/// No time at all: a password's hash is late.
async fn overdue(contract: &Contract) {
    let mut app = App::start_with(|config| {
        config.server.request_timeout = std::time::Duration::ZERO;
    })
    .await;
    let account =
        json!({ "email": "ada@example.org", "password": PASSWORD, "display_name": "Ada" });
    for path in ["/auth/register", "/auth/login"] {
        let answer = send(app.request(Method::POST, path).json(&account)).await;
        contract.expect("post", path, 504, &answer);
    }
    app.stop().await;
}

/// Every dependency away, then draining.
async fn unavailable(app: &App, contract: &Contract, reader: &Reader, id: &str) {
    let gateway = &app.replica().state().gateway;
    gateway.services().iter().flat_map(|service| &service.pools).for_each(|pool| pool.refuse_all());
    for operation in all().into_iter().filter(|operation| operation.path != "/providers") {
        let answer = send(operation.request(app, reader, id)).await;
        contract.expect(operation.method, operation.path, 503, &answer);
    }
    contract.expect("get", "/health", 503, &send(app.request(Method::GET, "/health")).await);
    gateway.drain();
    let answer = send(app.request(Method::GET, "/health/ready")).await;
    contract.expect("get", "/health/ready", 503, &answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_notices_what_is_not_described() {
    let mut app = App::start().await;
    let contract = Contract::of(&app).await;
    let reader = app.reader().await;
    let mut answer = app.call(&reader, Method::GET, "/users/me", None).await;
    contract.check("get", "/users/me", &answer).unwrap();
    answer.body["surprise"] = json!(1);
    assert!(contract.check("get", "/users/me", &answer).is_err(), "another field");
    answer.body.as_object_mut().unwrap().remove("surprise");
    answer.body.as_object_mut().unwrap().remove("email");
    assert!(contract.check("get", "/users/me", &answer).is_err(), "a missing field");
    let answer = send(app.request(Method::GET, "/users/you")).await;
    assert!(contract.check("get", "/users/me", &answer).is_ok(), "404 is described there");
    assert!(contract.check("get", "/providers", &answer).is_err(), "and not here");
    app.stop().await;
}
