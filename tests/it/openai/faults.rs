//! A server that stalls, lies, hangs up or is not there.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;
use whatif::config;
use whatif::domain::scenario::Usage;
use whatif::providers::remote_text;
use whatif::providers::text::{Deadline, EndReason, ProviderErrorKind, TextChunk};

use super::{configured, open_error, provider, read, request};
use crate::support::raw_http::{RawHttp, Step};

/// What a client makes of one answer: its text and how it ended.
async fn answered(steps: Vec<Step>) -> (String, Result<(EndReason, Usage), ProviderErrorKind>) {
    let server = RawHttp::start(vec![steps]).await;
    let config = config::Vendor { max_attempts: 1, ..configured(&server.url) };
    let provider = remote_text("openai", &config).expect("a usable configuration");
    let (texts, outcome) = read(&provider, "m").await;
    (texts.concat(), outcome)
}

#[tokio::test]
async fn a_character_split_across_chunks_stays_whole() {
    let frame = format!("data: {}\r\n\r\n", json!({"choices": [{"delta": {"content": "é𝄞漢"}}]}));
    let mut steps = vec![Step::Head];
    steps.extend(frame.bytes().map(|byte| Step::Chunk(vec![byte])));
    steps.extend([Step::finish("stop"), Step::done(), Step::End]);
    let (text, outcome) = answered(steps).await;
    assert_eq!(text, "é𝄞漢");
    // No usage was reported: a quarter of the bytes, rounded up.
    assert_eq!(outcome.map(|(_, usage)| usage.output_tokens), Ok(3));
}

#[tokio::test]
async fn nothing_but_a_proper_end_counts_as_one() {
    use ProviderErrorKind::*;
    let html =
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 12\r\n\r\n<h1>Hi</h1>\n";
    let close = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    for (name, steps, text, kind) in [
        ("cut within the body", vec![Step::Head, Step::text("A")], "A", Network),
        (
            "closed without an end",
            vec![
                Step::Raw(close.into()),
                Step::Raw("data: {\"choices\":[{\"delta\":{\"content\":\"A\"}}]}\n\n".into()),
            ],
            "A",
            Protocol,
        ),
        ("ended without an end", vec![Step::Head, Step::text("A"), Step::End], "A", Protocol),
        (
            "done without a reason",
            vec![Step::Head, Step::text("A"), Step::done(), Step::End],
            "A",
            Protocol,
        ),
        (
            "a frame that is no JSON",
            vec![Step::Head, Step::text("A"), Step::Frame("{oops".into()), Step::Stall],
            "A",
            Protocol,
        ),
        (
            "bytes that are no text",
            vec![
                Step::Head,
                Step::text("A"),
                Step::Chunk(vec![0xff, 0xfe, b'\n', b'\n']),
                Step::Stall,
            ],
            "A",
            Protocol,
        ),
        ("a page", vec![Step::Raw(html.into())], "", Protocol),
        ("no HTTP", vec![Step::Raw("220 mail ready\r\n".into())], "", Protocol),
        (
            "no chunks",
            vec![Step::Head, Step::text("A"), Step::Raw("oops\r\n".into()), Step::Stall],
            "A",
            Protocol,
        ),
        (
            "an error in the stream",
            vec![
                Step::Head,
                Step::text("A"),
                Step::frame(json!({"error": {"message": "m", "type": "server_error"}})),
                Step::Stall,
            ],
            "A",
            Overloaded { retry_after: None },
        ),
        (
            "a filter in the stream",
            vec![
                Step::Head,
                Step::frame(json!({"error": {"code": "content_filter"}})),
                Step::Stall,
            ],
            "",
            ContentFilter,
        ),
        (
            "a redirect",
            vec![Step::Raw(
                "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n".into(),
            )],
            "",
            Protocol,
        ),
    ] {
        assert_eq!(answered(steps).await, (text.to_owned(), Err(kind)), "{name}");
    }
}

#[tokio::test]
async fn every_silence_has_its_deadline() {
    let deadlines = config::Vendor {
        first_byte_timeout: Duration::from_millis(300),
        between_bytes_timeout: Duration::from_millis(300),
        whole_timeout: Duration::from_secs(20),
        max_attempts: 3,
        ..configured("")
    };
    let short_whole = config::Vendor {
        first_byte_timeout: Duration::from_secs(20),
        between_bytes_timeout: Duration::from_secs(20),
        whole_timeout: Duration::from_millis(300),
        ..deadlines.clone()
    };
    let short_between =
        config::Vendor { first_byte_timeout: Duration::from_secs(20), ..deadlines.clone() };
    let endless = {
        let pairs =
            (0..2_000).flat_map(|_| [Step::text("A"), Step::Pause(Duration::from_millis(10))]);
        std::iter::once(Step::Head).chain(pairs).collect::<Vec<_>>()
    };
    for (name, config, steps, deadline) in [
        ("no head", &deadlines, vec![Step::Stall], Deadline::FirstByte),
        ("no frame", &deadlines, vec![Step::Head, Step::Stall], Deadline::FirstByte),
        (
            "a stall",
            &short_between,
            vec![Step::Head, Step::text("A"), Step::Stall],
            Deadline::BetweenBytes,
        ),
        (
            "a stall before any text",
            &short_between,
            vec![
                Step::Pause(Duration::from_millis(700)),
                Step::Head,
                Step::Chunk(b": hello\n\n".to_vec()),
                Step::Stall,
            ],
            Deadline::BetweenBytes,
        ),
        ("no head at all", &short_whole, vec![Step::Stall], Deadline::Whole),
        ("a trickle", &short_whole, endless, Deadline::Whole),
    ] {
        let server = RawHttp::start(vec![steps]).await;
        let config = config::Vendor { base_url: Some(server.url.clone()), ..config.clone() };
        let provider = remote_text("openai", &config).expect("a usable configuration");
        let started = Instant::now();
        let (_, outcome) = read(&provider, "m").await;
        assert_eq!(outcome, Err(ProviderErrorKind::Timeout(deadline)), "{name}");
        let took = started.elapsed();
        assert!(
            took >= Duration::from_millis(300) && took < Duration::from_secs(10),
            "{name}: {took:?}"
        );
        assert_eq!(server.connections(), 1, "{name}: a silent server is not tried again");
    }
}

#[tokio::test]
async fn comments_keep_a_silent_stream_alive() {
    let mut steps = vec![Step::Head, Step::text("A")];
    for _ in 0..6 {
        steps.extend([
            Step::Pause(Duration::from_millis(300)),
            Step::Chunk(b": working\n\n".to_vec()),
        ]);
    }
    steps.extend([Step::text("B"), Step::finish("stop"), Step::done(), Step::End]);
    let server = RawHttp::start(vec![steps]).await;
    let config = config::Vendor {
        between_bytes_timeout: Duration::from_millis(1_500),
        ..configured(&server.url)
    };
    let provider = remote_text("openai", &config).expect("a usable configuration");
    let (texts, outcome) = read(&provider, "m").await;
    assert!(outcome.is_ok() && texts.concat() == "AB", "{outcome:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_hangs_up_is_tried_again() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let refused = provider(&url);
    assert_eq!(open_error(&refused, "m").await.kind, ProviderErrorKind::Network);
    assert_eq!(refused.probe().await.map_err(|error| error.kind), Err(ProviderErrorKind::Network));

    let fine = vec![Step::Head, Step::text("A"), Step::finish("stop"), Step::done(), Step::End];
    let server = RawHttp::start(vec![vec![], fine]).await;
    let (texts, outcome) = read(&provider(&server.url), "m").await;
    assert!(outcome.is_ok() && texts.concat() == "A", "{outcome:?}");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn dropping_a_stream_hangs_up_and_frees_its_place() {
    let mut server = RawHttp::start(vec![vec![Step::Head, Step::text("A"), Step::Stall]]).await;
    let config = config::Vendor { max_concurrency: 1, ..configured(&server.url) };
    let provider = remote_text("openai", &config).expect("a usable configuration");
    let mut stream = provider.open(request("m")).await.expect("a stream");
    assert!(matches!(stream.next().await, Some(Ok(TextChunk::Text(text))) if text == "A"));

    let refused = open_error(&provider, "m").await;
    assert!(
        matches!(refused.kind, ProviderErrorKind::Overloaded { retry_after: Some(_) }),
        "{refused}"
    );
    assert_eq!(server.connections(), 1);

    drop(stream);
    server.client_gone().await;
    let opened = provider.open(request("m")).await;
    assert!(opened.is_ok(), "the place is free again");

    // So does dropping a call that has not answered yet.
    drop(opened);
    server.client_gone().await;
    let mut silent = RawHttp::start(vec![vec![Step::Stall]]).await;
    let config = config::Vendor { max_concurrency: 1, ..configured(&silent.url) };
    let provider = remote_text("openai", &config).expect("a usable configuration");
    tokio::select! {
        _ = provider.open(request("m")) => panic!("it never answers"),
        () = async {
            while silent.connections() == 0 {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    silent.client_gone().await;
}
