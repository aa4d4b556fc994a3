//! Who plays a scenario: begins it and takes turns over REST, repeating each request under its key until it is answered.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::reader::{Address, Standing};

/// Longest for one attempt at a request.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Longest that a request may go unanswered, and a turn unfinished, whatever is broken meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// A REST client that repeats itself.
#[derive(Clone)]
pub struct Caller {
    http: Client,
    base: String,
    pub token: String,
}

impl Caller {
    pub fn new(base: &str, token: &str) -> Self {
        let http = Client::builder().timeout(ATTEMPT).build().unwrap();
        Self { http, base: base.into(), token: token.into() }
    }

    fn request(&self, method: &Method, path: &str, key: &str, body: &Value) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        let request = self.http.request(method.clone(), url).bearer_auth(&self.token);
        if body.is_null() { request } else { request.header("idempotency-key", key).json(body) }
    }

    /// Repeats a request until the answer is one that stays.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let key = Uuid::new_v4().to_string();
        let mut last = String::new();
        let answered = timeout(PATIENCE, async {
            loop {
                match self.request(&method, path, &key, body).send().await {
                    Ok(answer) => {
                        let status = answer.status();
                        let text = answer.text().await.unwrap_or_default();
                        let value: Value = serde_json::from_str(&text).unwrap_or_default();
                        let busy = value["error"] == "turn_in_progress";
                        let passing = status.is_server_error()
                            || status == StatusCode::TOO_MANY_REQUESTS
                            || value.is_null();
                        if !busy && !passing {
                            return (status, value);
                        }
                        last = format!("{status} {text}");
                    }
                    Err(error) => last = error.to_string(),
                }
                sleep(PAUSE).await;
            }
        });
        match answered.await {
            Ok(answer) => answer,
            Err(_) => panic!("{method} {path} was not answered within {PATIENCE:?}; last: {last}"),
        }
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(Method::GET, path, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Begins a scenario; its id.
    pub async fn begin(&self, prompt: &str, provider: &str, seed: u64) -> String {
        let wish =
            json!({ "prompt": prompt, "provider": provider, "seed": seed, "length": "short" });
        let (status, begun) = self.ask(Method::POST, "/scenarios", &wish).await;
        assert_eq!(status, 201, "{begun}");
        begun["id"].as_str().unwrap().to_owned()
    }
}

/// Takes turns in a scenario that was begun, until told to stop; returns how many were asked for, the first
/// included.
pub async fn play(
    caller: Caller,
    at: Address,
    mut reader: watch::Receiver<Standing>,
    stop: CancellationToken,
) -> usize {
    let path = format!("/scenarios/{}", at.scenario);
    let mut before = reader.borrow().clone();
    over(&at, &mut reader, None, &before).await;
    let mut turns = 1;
    // Snapshots that were seen when a turn last came to its own end.
    let mut settled = reader.borrow().snapshots;
    while !stop.is_cancelled() {
        before = reader.borrow().clone();
        let current = caller.get(&path).await["current_scene"].clone();
        let command = match current["choices"].get(turns % 2) {
            Some(choice) => {
                json!({ "kind": "choose", "scene": current["id"], "choice": choice["id"] })
            }
            // The first turn went down with its log before it was stored: there is nothing to go on from.
            None if current.is_null() => return turns,
            None => json!({ "kind": "retry", "scene": current["id"] }),
        };
        let (status, answer) = caller.ask(Method::POST, &format!("{path}/turns"), &command).await;
        turns += 1;
        if status == 202 {
            let turn = answer["turn"]["id"].as_str().or(answer["turn"].as_str());
            over(&at, &mut reader, turn, &before).await;
            let standing = reader.borrow();
            if standing.turn.as_ref().is_some_and(|(told, over)| *over && Some(&**told) == turn) {
                settled = standing.snapshots;
            }
        } else {
            // With a log its memory of keys is lost, so that a repeated command may come too late; and a turn that seemed
            // to be lost may have been carried over.
            sleep(Duration::from_secs(1)).await;
            let lost = reader.borrow().snapshots > settled;
            assert!(lost, "{} {command} was refused: {status} {answer}", at.scenario);
        }
    }
    turns
}

/// Waits until a turn (the first of all, if none is named) is over, or lost with its log.
async fn over(
    at: &Address,
    reader: &mut watch::Receiver<Standing>,
    turn: Option<&str>,
    before: &Standing,
) {
    let since = Instant::now();
    let told = |standing: &Standing| match (&standing.turn, turn) {
        (Some((told, over)), Some(turn)) if told == turn => *over,
        (Some((_, over)), None) => *over,
        // A snapshot of a new log in which it is not running.
        (None, _) => standing.snapshots > before.snapshots,
        (Some((_, over)), _) => standing.snapshots > before.snapshots && *over,
    };
    let waiting = timeout(PATIENCE, reader.wait_for(told)).await;
    let over = matches!(waiting, Ok(Ok(_)));
    drop(waiting);
    if !over {
        panic!(
            "turn {turn:?} of {} is not over after {:?}, or its reader has failed; it stands at {:?}",
            at.scenario,
            since.elapsed(),
            reader.borrow()
        );
    }
}
