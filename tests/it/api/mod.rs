//! The REST part of the contract, asked from outside: a file per resource, as in `src/http/`.

mod auth;
mod conformance;
mod creating;
mod errors;
mod health;
mod internal;
mod logins;
mod openapi;
mod providers;
mod scenarios;
mod schema;
mod turns;
mod users;

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use uuid::Uuid;

use super::support::app::{App, Reader};

/// An answer, read whole. The body is null if it is not JSON.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// That this is an error of the contract: status, code, and every part of the one shape.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert!(!self.body["message"].as_str().unwrap().is_empty(), "{self:?}");
        let id = self.body["request_id"].as_str().expect("request_id in the body");
        assert!(!id.is_empty());
        assert_eq!(self.header("x-request-id"), Some(id), "{self:?}");
        let known = ["details", "error", "message", "request_id"];
        assert!(self.body.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())));
        let waits = self.header("retry-after").map(|wait| wait.parse::<u64>().unwrap());
        assert_eq!(waits.is_some(), matches!(status, 429 | 503), "{self:?}");
        assert_ne!(waits, Some(0), "{self:?}");
    }

    /// The fields that `details` names.
    pub fn fields(&self) -> Vec<&str> {
        let details = self.body["details"].as_array().expect("details");
        details.iter().map(|detail| detail["field"].as_str().unwrap()).collect()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}\n{}", self.status, self.headers, self.text)
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.expect("a whole body");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, headers, body, text }
}

impl App {
    /// A request by `reader`, its answer with headers.
    pub async fn call(
        &self,
        reader: &Reader,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self.request(method, path).bearer_auth(&reader.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        send(request).await
    }

    /// A POST by `reader` under an `Idempotency-Key`.
    pub async fn post_once(&self, reader: &Reader, path: &str, key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).bearer_auth(&reader.token);
        send(request.header("Idempotency-Key", key).json(body)).await
    }

    /// Waits until `done` says so of the scenario.
    pub async fn until(&self, reader: &Reader, id: &str, done: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..2_000 {
            let answer = self.call(reader, Method::GET, &format!("/scenarios/{id}"), None).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            if done(&answer.body) {
                return answer.body;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("scenario {id} never got there");
    }

    /// A scenario whose first scene is told and whose turn is over.
    pub async fn told(&self, reader: &Reader) -> (String, Value) {
        let begun = self.scenario(reader, "What if Rome never fell?").await;
        let id = begun["id"].as_str().unwrap().to_owned();
        let scenario = self.until(reader, &id, |scenario| !scenario["current_scene"].is_null());
        let scene = scenario.await["current_scene"].clone();
        self.until_idle().await;
        (id, scene)
    }

    /// Waits until no turn runs in the whole replica.
    pub async fn until_idle(&self) {
        for _ in 0..2_000 {
            if self.replica().state().generation.running_turns() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a turn never ended");
    }
}

pub fn key() -> String {
    Uuid::new_v4().to_string()
}
