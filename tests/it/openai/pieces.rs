//! What arrives together, too much of it, and answers as other servers write them.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;
use whatif::config;
use whatif::domain::scenario::Usage;
use whatif::providers::remote_text;
use whatif::providers::text::{EndReason, ProviderErrorKind, TextChunk};

use super::{configured, open_error, provider, read, request};
use crate::support::raw_http::{RawHttp, Step};

type Outcome = Result<(EndReason, Usage), ProviderErrorKind>;

/// The texts a client makes of one answer and how it ended.
async fn answered(steps: Vec<Step>) -> (Vec<String>, Outcome) {
    let server = RawHttp::start(vec![steps]).await;
    let config = config::Vendor { max_attempts: 1, ..configured(&server.url) };
    let provider = remote_text("openai", &config).expect("a usable configuration");
    read(&provider, "m").await
}

/// Several events in one piece.
fn together(data: &[&str]) -> Step {
    Step::Chunk(data.iter().map(|data| format!("data: {data}\n\n")).collect::<String>().into())
}

const A: &str = r#"{"choices":[{"delta":{"content":"A"}}]}"#;
const B: &str = r#"{"choices":[{"delta":{"content":"B"}}]}"#;
const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;

#[tokio::test]
async fn a_stream_that_nobody_reads_for_a_while_has_not_fallen_silent() {
    let silence = Duration::from_millis(300);
    let mut steps = vec![Step::Head, Step::text("A"), Step::Pause(Duration::from_millis(50))];
    steps.extend((0..50).map(|_| Step::text("B")));
    steps.extend([Step::finish("stop"), Step::done(), Step::End]);
    let server = RawHttp::start(vec![steps]).await;
    let config = config::Vendor { between_bytes_timeout: silence, ..configured(&server.url) };
    let provider = remote_text("openai", &config).expect("a usable configuration");
    let mut stream = provider.open(request("m")).await.expect("a stream");
    let mut text = String::new();
    loop {
        // After the first words its reader is away for longer than the vendor may be silent.
        if text.len() == 1 {
            tokio::time::sleep(silence * 3).await;
        }
        match stream.next().await {
            Some(Ok(TextChunk::Text(more))) => text.push_str(&more),
            Some(Ok(TextChunk::End { reason, .. })) => {
                break assert_eq!(reason, EndReason::Complete);
            }
            other => panic!("after {text}: {other:?}"),
        }
    }
    assert_eq!(text, format!("A{}", "B".repeat(50)));
}

#[tokio::test]
async fn texts_that_come_together_stay_together_and_before_what_follows() {
    let usage = Usage { input_tokens: 7, output_tokens: 2 };
    let filter = r#"{"choices":[{"delta":{"content":"B"},"finish_reason":"content_filter"}]}"#;
    for (name, data, texts, outcome) in [
        (
            "a whole answer",
            vec![A, B, STOP, USAGE, "[DONE]"],
            "AB",
            Ok((EndReason::Complete, usage)),
        ),
        (
            "what follows the end",
            vec![A, STOP, USAGE, "[DONE]", B, "{"],
            "A",
            Ok((EndReason::Complete, usage)),
        ),
        (
            "an error",
            vec![A, r#"{"error":{"code":429}}"#, B],
            "A",
            Err(ProviderErrorKind::RateLimited { retry_after: None }),
        ),
        ("no JSON", vec![A, B, "{oops", A], "AB", Err(ProviderErrorKind::Protocol)),
        ("a filter", vec![A, filter, "[DONE]"], "AB", Err(ProviderErrorKind::ContentFilter)),
    ] {
        let answer = answered(vec![Step::Head, together(&data), Step::Stall]).await;
        assert_eq!(answer, (vec![texts.to_owned()], outcome), "{name}");
    }
}

#[tokio::test]
async fn an_estimate_counts_all_of_the_text() {
    let text = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(100));
    let steps = vec![Step::Head, together(&[&text]), together(&[&text, STOP, "[DONE]"]), Step::End];
    let (texts, outcome) = answered(steps).await;
    assert_eq!(texts.concat().len(), 200);
    assert_eq!(outcome.map(|(_, usage)| usage.output_tokens), Ok(50));
}

#[tokio::test]
async fn other_servers_ways_are_understood() {
    let chunk =
        |choice: serde_json::Value| json!({"choices": [choice], "usage": null, "error": null});
    let parts = json!([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "A"}]);
    let last = json!({
        "choices": [{"delta": {"content": "B"}, "finish_reason": "eos"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2},
    });
    let steps = vec![
        Step::Head,
        Step::frame(chunk(json!({"delta": {"role": "assistant", "reasoning_content": "hm"}}))),
        Step::frame(chunk(json!({"delta": {"content": parts}}))),
        Step::frame(last),
        // Without the empty line.
        Step::Chunk(b"data:[DONE]".to_vec()),
        Step::End,
    ];
    let usage = Usage { input_tokens: 7, output_tokens: 2 };
    let (texts, outcome) = answered(steps).await;
    assert_eq!((texts.concat().as_str(), outcome), ("AB", Ok((EndReason::Complete, usage))));
}

#[tokio::test]
async fn an_endless_event_is_given_up() {
    let long = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "x".repeat(200 * 1024));
    let fits = vec![Step::Head, together(&[&long, STOP, "[DONE]"]), Step::End];
    let (texts, outcome) = answered(fits).await;
    assert!(outcome.is_ok() && texts.concat().len() == 200 * 1024, "{outcome:?}");

    let piece = Step::Chunk(vec![b'x'; 16 * 1024]);
    for start in ["data: ", ": ", "event: "] {
        let mut steps = vec![Step::Head, Step::text("A"), Step::Chunk(start.into())];
        steps.extend(vec![piece.clone(); 17]);
        steps.push(Step::Stall);
        let started = Instant::now();
        let answer = answered(steps).await;
        assert_eq!(answer, (vec!["A".to_owned()], Err(ProviderErrorKind::Protocol)), "{start}");
        assert!(started.elapsed() < Duration::from_secs(10), "it was given up by its size");
    }
}

#[tokio::test]
async fn an_endless_error_is_cut_off() {
    let head = "HTTP/1.1 429 No\r\nretry-after: 60\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut steps = vec![Step::Raw(head.into())];
    steps.extend(vec![Step::Chunk(vec![b'x'; 16 * 1024]); 5]);
    steps.push(Step::Stall);
    let mut server = RawHttp::start(vec![steps]).await;
    let error = open_error(&provider(&server.url), "m").await;
    let retry_after = Some(Duration::from_secs(60));
    assert_eq!(error.kind, ProviderErrorKind::RateLimited { retry_after });
    assert!(error.message.len() < 400);
    server.client_gone().await;
}
