//! The OpenAI-compatible text provider against a mock server by other people, and ([`faults`], [`pieces`]) against one that
//! misbehaves.

mod faults;
mod pieces;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;
use whatif::config::{self, Kind};
use whatif::domain::patch::Object;
use whatif::domain::scenario::{Choice, Length, Usage, Via};
use whatif::domain::turn_format::{Piece, TurnParser, render};
use whatif::providers::remote_text;
use whatif::providers::text::{
    Brief, EndReason, ProviderError, ProviderErrorKind, StoryRequest, TextChunk, TextProvider,
};

use crate::support::aimock::Aimock;
use crate::support::proxy::Proxy;
use crate::support::raw_http::{RawHttp, Step};

fn configured(base_url: &str) -> config::Vendor {
    config::Vendor {
        api_key: Some("sk-test-key".to_owned().into()),
        base_url: Some(base_url.to_owned()),
        max_attempts: 2,
        ..config::Vendor::of(Kind::OpenAi)
    }
}

fn provider(base_url: &str) -> Arc<dyn TextProvider> {
    remote_text("openai", &configured(base_url)).expect("a usable configuration")
}

fn request(model: &str) -> StoryRequest {
    StoryRequest {
        brief: Arc::new(Brief {
            prompt: "What if Rome never fell?".into(),
            genre: None,
            tone: None,
            length: Length::Short,
            language: "en".into(),
            seed: 1,
        }),
        path: Arc::new(Vec::new()),
        chapters: Arc::default(),
        state: Arc::new(Object::new()),
        via: Via::Prompt,
        variation: 0,
        shown: String::new(),
        prose_done: false,
        model: Some(model.into()),
    }
}

/// The texts of a whole call and how it ended.
async fn read(
    provider: &Arc<dyn TextProvider>,
    model: &str,
) -> (Vec<String>, Result<(EndReason, Usage), ProviderErrorKind>) {
    let mut texts = Vec::new();
    let mut stream = match provider.open(request(model)).await {
        Ok(stream) => stream,
        Err(error) => return (texts, Err(error.kind)),
    };
    let mut outcome = None;
    while let Some(item) = stream.next().await {
        assert!(outcome.is_none(), "nothing comes after the end");
        match item {
            Ok(TextChunk::Text(text)) => texts.push(text),
            Ok(TextChunk::End { reason, usage }) => outcome = Some(Ok((reason, usage))),
            Err(error) => outcome = Some(Err(error.kind)),
        }
    }
    (texts, outcome.expect("a stream says how it ended"))
}

async fn open_error(provider: &Arc<dyn TextProvider>, model: &str) -> ProviderError {
    provider.open(request(model)).await.err().expect("the call fails")
}

fn choice(label: &str) -> Choice {
    Choice { id: String::new(), label: label.into(), hint: None }
}

#[tokio::test]
async fn a_scene_streams_and_is_read() {
    let mock = Aimock::start().await;
    let scene = render(
        "The gate fell — “quietly”, said some.\n\nNobody spoke.",
        &[choice("Run"), choice("Stay")],
        &Object::new(),
    );
    let usage = json!({"prompt_tokens": 321, "completion_tokens": 45});
    mock.fixtures(json!([{
        "match": {"model": "happy"}, "chunkSize": 7, "latency": 2, "response": {"content": scene, "usage": usage},
    }]))
    .await;

    let (texts, outcome) = read(&provider(&mock.openai_url()), "happy").await;
    assert!(texts.len() > 5, "it streams: {texts:?}");
    assert_eq!(texts.concat(), scene);
    let usage = Usage { input_tokens: 321, output_tokens: 45 };
    assert_eq!(outcome, Ok((EndReason::Complete, usage)));

    let mut parser = TurnParser::new();
    let mut labels = Vec::new();
    let mut sink = |piece: Piece<'_>| {
        if let Piece::Choice { label, .. } = piece {
            labels.push(label);
        }
    };
    texts.iter().for_each(|text| parser.push(text, &mut sink));
    assert!(parser.finish(&mut sink).is_clean());
    assert_eq!(labels, ["Run", "Stay"]);

    let sent = &mock.requests("happy").await[0]["body"];
    assert_eq!(sent["stream_options"]["include_usage"], true);
    assert_eq!((&sent["max_tokens"], &sent["temperature"]), (&json!(1200), &json!(0.9)));
    let roles: Vec<_> =
        sent["messages"].as_array().expect("messages").iter().map(|m| &m["role"]).collect();
    assert_eq!(roles, ["system", "user"]);
    assert!(sent.get("reasoning_effort").is_none() && sent.get("seed").is_none());
}

#[tokio::test]
async fn models_names_and_base_urls_are_used_as_given() {
    let mock = Aimock::start().await;
    let text = json!({"content": "Fine.", "finishReason": "stop"});
    let models = ["llama3:8b", "org::tuned-high", "gpt-5-mini"];
    for model in models {
        mock.fixtures(json!([{"match": {"model": model}, "response": text}])).await;
        assert_eq!(read(&provider(&mock.openai_url()), model).await.0.concat(), "Fine.");
        let sent = &mock.requests(model).await[0]["body"];
        let reasoning = model == "gpt-5-mini";
        assert_eq!(sent.get("temperature").is_none(), reasoning, "{model}");
        assert_eq!(sent.get("max_completion_tokens").is_some(), reasoning, "{model}");
        assert!(sent.get("reasoning_effort").is_none(), "{model}");
    }

    let url = mock.openai_url();
    for (base, path) in [
        (format!("{url}/"), "/v1/chat/completions"),
        (format!("{url}/chat/completions"), "/v1/chat/completions"),
        (mock.url().to_owned(), "/chat/completions"),
    ] {
        let config = config::Vendor { api_key: None, model: models[0].into(), ..configured(&base) };
        let provider = remote_text("openai", &config).expect("no key is needed with a base URL");
        assert_eq!(read(&provider, provider.model()).await.0.concat(), "Fine.", "{base}");
        let last = mock.requests(models[0]).await.pop().expect("a request");
        assert_eq!(last["path"], path, "{base}");
    }
    let last = mock.requests(models[0]).await.pop().expect("a request");
    assert!(last["headers"].get("authorization").is_none());
}

#[tokio::test]
async fn error_statuses_have_their_class_and_only_passing_ones_are_tried_again() {
    use ProviderErrorKind::*;
    let mock = Aimock::start().await;
    let overloaded = Overloaded { retry_after: None };
    for (model, status, code, kind, tries) in [
        ("unknown-key", 401, "invalid_api_key", Auth, 1),
        ("forbidden", 403, "forbidden", Auth, 1),
        ("malformed", 400, "context_length_exceeded", BadRequest, 1),
        ("unprocessable", 422, "invalid", BadRequest, 1),
        ("filtered", 400, "content_filter", ContentFilter, 1),
        ("policy", 400, "content_policy_violation", ContentFilter, 1),
        ("broken", 500, "server_error", overloaded.clone(), 2),
        ("overloaded", 529, "overloaded_error", overloaded, 2),
        (
            "limited",
            429,
            "rate_limit_exceeded",
            RateLimited { retry_after: Some(Duration::from_secs(1)) },
            2,
        ),
        (
            "exhausted",
            429,
            "insufficient_quota",
            RateLimited { retry_after: Some(Duration::from_secs(1)) },
            1,
        ),
    ] {
        let error = json!({"message": "no, sk-test-key", "type": "error", "code": code});
        mock.fixtures(
            json!([{"match": {"model": model}, "response": {"error": error, "status": status}}]),
        )
        .await;
        let error = open_error(&provider(&mock.openai_url()), model).await;
        assert_eq!(error.kind, kind, "{model}: {error}");
        assert_eq!(mock.requests(model).await.len(), tries, "{model}");
        assert!(!error.message.contains("sk-test-key"), "{error}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_for_unless_it_is_long() {
    let mock = Aimock::start().await;
    let limit =
        |secs: u32| json!({"error": {"message": "slow down"}, "status": 429, "retryAfter": secs});
    mock.fixtures(json!([
        {"match": {"model": "soon", "sequenceIndex": 0}, "response": limit(1)},
        {"match": {"model": "soon"}, "response": {"content": "Now."}},
        {"match": {"model": "later"}, "response": limit(60)},
    ]))
    .await;
    let provider = provider(&mock.openai_url());

    let started = Instant::now();
    let (texts, outcome) = read(&provider, "soon").await;
    assert!(outcome.is_ok() && texts.concat() == "Now.", "{outcome:?}");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(mock.requests("soon").await.len(), 2);

    let error = open_error(&provider, "later").await;
    assert_eq!(
        error.kind,
        ProviderErrorKind::RateLimited { retry_after: Some(Duration::from_secs(60)) }
    );
    assert_eq!(mock.requests("later").await.len(), 1);
}

#[tokio::test]
async fn a_finish_says_why() {
    let mock = Aimock::start().await;
    for (model, reason) in [("long", "length"), ("filter", "content_filter")] {
        let response = json!({"content": "Some text.", "finishReason": reason});
        mock.fixtures(json!([{"match": {"model": model}, "response": response}])).await;
    }
    let provider = provider(&mock.openai_url());
    let (texts, outcome) = read(&provider, "long").await;
    assert_eq!(
        (texts.concat().as_str(), outcome.map(|end| end.0)),
        ("Some text.", Ok(EndReason::Length))
    );
    let (texts, outcome) = read(&provider, "filter").await;
    assert_eq!(
        (texts.concat().as_str(), outcome),
        ("Some text.", Err(ProviderErrorKind::ContentFilter))
    );
}

#[tokio::test]
async fn a_server_that_breaks_off_is_an_error_after_its_text() {
    let mock = Aimock::start().await;
    mock.fixtures(json!([{
        "match": {"model": "cut"}, "chunkSize": 5, "latency": 20, "truncateAfterChunks": 4,
        "response": {"content": "The gate fell and then the wall fell."},
    }]))
    .await;
    let (texts, outcome) = read(&provider(&mock.openai_url()), "cut").await;
    assert!("The gate fell".starts_with(&texts.concat()) && !texts.is_empty(), "{texts:?}");
    assert!(
        matches!(outcome, Err(ProviderErrorKind::Network | ProviderErrorKind::Protocol)),
        "{outcome:?}"
    );
    assert_eq!(mock.requests("cut").await.len(), 1, "no other try after the first text");
}

#[tokio::test]
async fn a_probe_tells_the_living_from_the_rest() {
    let mock = Aimock::start().await;
    provider(&mock.openai_url()).probe().await.expect("alive");
    provider(&format!("{}/no/such/place", mock.url()))
        .probe()
        .await
        .expect("alive, without that route");

    for (status, kind) in [
        (401, ProviderErrorKind::Auth),
        (429, ProviderErrorKind::RateLimited { retry_after: Some(Duration::from_secs(9)) }),
        (503, ProviderErrorKind::Overloaded { retry_after: Some(Duration::from_secs(9)) }),
    ] {
        let answer = format!("HTTP/1.1 {status} No\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n");
        let server = RawHttp::start(vec![vec![Step::Raw(answer)]]).await;
        assert_eq!(
            provider(&server.url).probe().await.map_err(|error| error.kind),
            Err(kind),
            "{status}"
        );
    }
}

/// What the vendor was asked, once it was asked so often.
async fn asked(mock: &Aimock, model: &str, count: usize) -> Vec<serde_json::Value> {
    let arrived = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let mut calls = mock.requests(model).await;
            if calls.len() >= count {
                return calls.iter_mut().map(|call| call["body"].take()).collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    arrived.await.unwrap_or_else(|_| panic!("{count} calls do not arrive"))
}

#[tokio::test]
async fn a_call_is_made_again_only_if_it_was_cut_before_its_first_text() {
    let mock = Aimock::start().await;
    let content = "The gate fell. ".repeat(40);
    mock.fixtures(json!([{
        "match": {"model": "cut"}, "chunkSize": 8, "latency": 400, "response": {"content": content},
    }]))
    .await;
    let url = mock.openai_url();
    let port = url.split(':').nth(2).and_then(|rest| rest.split('/').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    let wire = Proxy::start(([127, 0, 0, 1], port).into()).await;
    let provider = provider(&format!("http://127.0.0.1:{}/v1", wire.port));

    let opened = tokio::spawn(async move { provider.open(request("cut")).await });
    asked(&mock, "cut", 1).await;
    wire.cut();
    let mut stream = opened.await.expect("no panic").expect("the second try");
    let first = stream.next().await;
    assert!(matches!(&first, Some(Ok(TextChunk::Text(text))) if content.starts_with(&**text)));
    wire.cut();
    let broke = loop {
        match stream.next().await {
            Some(Ok(TextChunk::Text(_))) => {}
            other => break other,
        }
    };
    assert!(matches!(broke, Some(Err(error)) if error.kind == ProviderErrorKind::Network));
    assert!(stream.next().await.is_none());

    // What reached the vendor before its first text did not reach us is charged twice; nothing else is.
    let calls = asked(&mock, "cut", 2).await;
    assert_eq!((calls.len(), &calls[0]), (2, &calls[1]));
}
