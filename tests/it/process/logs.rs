use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::super::support::app::PASSWORD;
use super::Server;
use super::reader::Reader;

const SECRET: &str = "hush-hush-hush-hush-hush-hush-hush";
const API_KEY: &str = "sk-hush-hush";

fn carries(line: &Value, id: &str) -> bool {
    let spans = line["spans"].as_array().into_iter().flatten();
    spans.chain([&line["span"]]).any(|span| span["request_id"] == id)
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
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert_ne!(line["request_id"], "None", "another's id in the place of ours: {line}");
    }
    // The request itself, a provider's worker, and the turn, long after the request was answered.
    for module in ["whatif::http", "whatif::actors::pool", "whatif::actors::generation::turn"] {
        let found = lines.iter().any(|line| {
            line["target"].as_str().is_some_and(|target| target.starts_with(module))
                && carries(line, "begin-1")
        });
        assert!(found, "no line of {module} carries the request's id:\n{log}");
    }
    let secrets = [SECRET, API_KEY, PASSWORD, token];
    let refresh = [&account, &refreshed].map(|tokens| tokens["refresh_token"].as_str().unwrap());
    for secret in secrets.into_iter().chain(refresh) {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
