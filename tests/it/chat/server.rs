//! A server that notes what it is asked and answers what it is told to: a vendor of text or of searches.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Noted {
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    pub headers: HeaderMap,
    /// Null if it was no JSON.
    pub body: Value,
}

impl Noted {
    /// A parameter of its query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let url = reqwest::Url::parse(&format!("http://h{}", self.uri)).unwrap();
        let found = url.query_pairs().find(|(key, _)| key == name);
        found.map(|(_, value)| value.into_owned())
    }

    /// What a model was sent, as `role: content`.
    pub fn messages(&self) -> Vec<String> {
        let messages = self.body["messages"].as_array().expect("messages").iter();
        let line = |message: &Value| {
            format!(
                "{}: {}",
                message["role"].as_str().unwrap(),
                message["content"].as_str().unwrap()
            )
        };
        messages.map(line).collect()
    }
}

#[derive(Debug, Clone)]
pub struct Canned {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Canned {
    pub fn json(body: Value) -> Self {
        Self { status: 200, kind: "application/json", body: body.to_string() }
    }

    pub fn status(status: u16, body: &str) -> Self {
        Self { status, kind: "text/plain", body: body.into() }
    }

    /// A whole answer in OpenAI's format.
    pub fn said(pieces: &[&str]) -> Self {
        let mut body = String::new();
        let mut frame = |json: Value| body.push_str(&format!("data: {json}\n\n"));
        for piece in pieces {
            frame(json!({"choices": [{"index": 0, "delta": {"content": piece}}]}));
        }
        frame(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
        frame(json!({"choices": [], "usage": {"prompt_tokens": 70, "completion_tokens": 9}}));
        body.push_str("data: [DONE]\n\n");
        Self { status: 200, kind: "text/event-stream", body }
    }
}

#[derive(Default)]
struct Desk {
    noted: Vec<Noted>,
    next: VecDeque<Canned>,
    last: Option<Canned>,
}

pub struct Server {
    pub url: String,
    desk: Arc<Mutex<Desk>>,
}

impl Server {
    /// Gives these answers in turn, then the last one again and again.
    pub async fn start(answers: impl IntoIterator<Item = Canned>) -> Self {
        let desk = Desk { next: answers.into_iter().collect(), ..Desk::default() };
        let desk = Arc::new(Mutex::new(desk));
        let router = Router::new().fallback(answer).with_state(Arc::clone(&desk));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, desk }
    }

    pub fn noted(&self) -> Vec<Noted> {
        self.desk.lock().unwrap().noted.clone()
    }
}

async fn answer(
    State(desk): State<Arc<Mutex<Desk>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let mut desk = desk.lock().unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    desk.noted.push(Noted { method, uri, headers, body });
    if let Some(next) = desk.next.pop_front() {
        desk.last = Some(next);
    }
    let canned = desk.last.clone().expect("an answer");
    let status = StatusCode::from_u16(canned.status).unwrap();
    (status, [(header::CONTENT_TYPE, canned.kind)], canned.body)
}
