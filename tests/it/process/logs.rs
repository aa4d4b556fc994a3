use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::tempdir;
use tokio_tungstenite::tungstenite::Message;

use super::super::support::app::PASSWORD;
use super::Server;
use super::reader::{Reader, open};

const SECRET: &str = "hush-hush-hush-hush-hush-hush-hush";
const API_KEY: &str = "sk-hush-hush";

/// Whether one of the line's spans has the field.
fn carries(line: &Value, field: &str, value: &str) -> bool {
    let spans = line["spans"].as_array().into_iter().flatten();
    spans.chain([&line["span"]]).any(|span| span[field] == value)
}

fn lines(log: &str) -> Vec<Value> {
    let parse =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
    log.lines().map(parse).collect()
}

fn is_of(line: &Value, module: &str) -> bool {
    line["target"].as_str().is_some_and(|target| target.starts_with(module))
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_json_lines_with_the_requests_id_and_without_secrets() {
    let folder = tempdir().unwrap();
    // A provider that is not there makes turns talk about it.
    let env = [
        ("LOG_LEVEL", "trace"),
        ("JWT_SECRET", SECRET),
        ("OPENAI_API_KEY", API_KEY),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/"),
        ("WHATIF__PROVIDERS__STORYTELLER__WORDS_PER_SECOND", "0"),
        ("WHATIF__PROVIDERS__OPENAI__MAX_ATTEMPTS", "1"),
    ];
    let mut server = Server::start(folder.path(), 0, &env).await;
    let account = server.register("ada@example.org").await;
    let token = account["access_token"].as_str().unwrap();
    let body = json!({ "refresh_token": account["refresh_token"] });
    let (_, refreshed) =
        server.ask(server.request(Method::POST, "/auth/refresh").json(&body)).await;
    let begin = server.request(Method::POST, "/scenarios").bearer_auth(token);
    let begin = begin.header("X-Request-ID", "begin-1").header("Idempotency-Key", "once-1");
    let (status, begun) = server.ask(begin.json(&json!({ "prompt": "What if?", "seed": 7 }))).await;
    assert_eq!(status, 201, "{begun}");
    let mut reader = Reader::sse(token, begun["id"].as_str().unwrap());
    reader.read_turn(&server).await;
    server.signal("TERM").await;
    assert_eq!(server.ended(Duration::from_secs(15)).await, Some(0));

    let log = server.log();
    let lines = lines(&log);
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert_ne!(line["request_id"], "None", "another's id in the place of ours: {line}");
    }
    // The request itself, a provider's worker, and the turn, long after the request was answered.
    for module in ["whatif::http", "whatif::actors::pool", "whatif::actors::generation::turn"] {
        let found =
            lines.iter().any(|line| is_of(line, module) && carries(line, "request_id", "begin-1"));
        assert!(found, "no line of {module} carries the request's id:\n{log}");
    }
    let secrets = [SECRET, API_KEY, PASSWORD, token];
    let refresh = [&account, &refreshed].map(|tokens| tokens["refresh_token"].as_str().unwrap());
    for secret in secrets.into_iter().chain(refresh) {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_socket_asks_for_is_logged_under_its_request_its_connection_and_its_frame() {
    let folder = tempdir().unwrap();
    let env = [
        ("LOG_LEVEL", "debug"),
        ("OPENAI_API_KEY", API_KEY),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1/"),
        ("WHATIF__PROVIDERS__STORYTELLER__WORDS_PER_SECOND", "0"),
        ("WHATIF__PROVIDERS__OPENAI__MAX_ATTEMPTS", "1"),
    ];
    let server = Server::start(folder.path(), 0, &env).await;
    let account = server.register("ada@example.org").await;
    let token = account["access_token"].as_str().unwrap();
    let begun = server.scenario(token, "What if?").await;
    let mut reader = Reader::sse(token, begun["id"].as_str().unwrap());
    reader.read_turn(&server).await;

    let mut socket = open(&server, &[("x-request-id", "upgrade-1")]).await;
    let say = json!({ "type": "say", "id": "frame-2", "scenario": begun["id"], "scene": "n1",
        "text": "Go on." });
    let stale = json!({ "type": "say", "id": "frame-3", "scenario": begun["id"], "scene": "n9",
        "text": "Go on." });
    let mut conn = String::new();
    for ask in [json!({ "type": "hello", "id": "frame-1", "token": token }), say] {
        socket.send(Message::text(ask.to_string())).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap().into_text().unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["id"], ask["id"], "{answer}");
        if let Some(named) = answer["conn"].as_str() {
            conn = named.to_owned();
        }
    }
    reader.read_turn(&server).await;
    socket.send(Message::text(stale.to_string())).await.unwrap();
    let refused = socket.next().await.unwrap().unwrap().into_text().unwrap();
    assert!(refused.contains("scene_not_found"), "{refused}");

    let log = server.log();
    let lines = lines(&log);
    // A provider's worker and the turn, long after the command was answered; and a refusal.
    for (module, frame) in [
        ("whatif::actors::pool", "frame-2"),
        ("whatif::actors::generation::turn", "frame-2"),
        ("whatif::http::ws", "frame-3"),
    ] {
        let found = lines.iter().any(|line| {
            is_of(line, module)
                && carries(line, "request_id", "upgrade-1")
                && carries(line, "conn", &conn)
                && carries(line, "frame_id", frame)
        });
        assert!(found, "no line of {module} says what it belongs to:\n{log}");
    }
}
