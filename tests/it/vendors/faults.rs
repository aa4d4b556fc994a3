//! Answers that break off, lie or are none, in every format.

use std::time::Duration;

use futures::StreamExt;
use whatif::config::{Kind, Vendor};
use whatif::domain::scenario::Usage;
use whatif::providers::text::{EndReason, ProviderErrorKind, TextChunk};

use super::format::{self, Reason, answer, end, start, text};
use super::{Outcome, configured, open_error, provider, read, request};
use crate::support::raw_http::{RawHttp, Step};

const USAGE: Usage = Usage { input_tokens: 7, output_tokens: 2 };

/// What a client makes of one answer: its text and how it ended.
async fn answered(kind: Kind, steps: Vec<Step>) -> (String, Outcome) {
    let server = RawHttp::start(vec![steps]).await;
    let (texts, outcome) = read(&provider(&configured(kind, &server.url)), request("m")).await;
    (texts.concat(), outcome)
}

#[tokio::test]
async fn an_answer_is_read_wherever_it_is_cut() {
    for kind in Kind::ALL {
        let whole = [start(kind), text(kind, "é𝄞漢\n"), text(kind, "“B”"), end(kind, Reason::Stop)];
        // Byte by byte: every character is cut somewhere.
        let bytes = whole.concat().into_iter().map(|byte| Step::Chunk(vec![byte]));
        let steps = [Step::Head].into_iter().chain(bytes).chain([Step::End]).collect();
        let want = ("é𝄞漢\n“B”".to_owned(), Ok((EndReason::Complete, USAGE)));
        assert_eq!(answered(kind, steps).await, want, "{kind:?}");
        // And all at once, which is one text.
        let server = RawHttp::start(vec![vec![Step::Head, Step::Chunk(whole.concat()), Step::End]]);
        let server = server.await;
        let (texts, _) = read(&provider(&configured(kind, &server.url)), request("m")).await;
        assert_eq!(texts, [want.0], "{kind:?}");
    }
}

#[tokio::test]
async fn a_reason_to_stop_is_passed_on_and_what_is_no_text_is_not() {
    use Reason::*;
    for kind in Kind::ALL {
        for (reason, want) in [
            (Stop, Ok((EndReason::Complete, USAGE))),
            (Length, Ok((EndReason::Length, USAGE))),
            (Filter, Err(ProviderErrorKind::ContentFilter)),
            (Tools, Ok((EndReason::Complete, USAGE))),
        ] {
            let pieces = [text(kind, "A"), format::aside(kind), text(kind, "B"), end(kind, reason)];
            let told = answered(kind, answer(kind, &pieces)).await;
            assert_eq!(told, ("AB".to_owned(), want), "{kind:?} {reason:?}");
        }
        // Nothing but tools, and nothing at all.
        for pieces in [vec![format::aside(kind), end(kind, Tools)], vec![end(kind, Stop)]] {
            let told = answered(kind, answer(kind, &pieces)).await;
            assert_eq!(told, (String::new(), Ok((EndReason::Complete, USAGE))), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn nothing_but_a_proper_end_counts_as_one() {
    use ProviderErrorKind::*;
    for kind in Kind::ALL {
        let piece = Step::Chunk;
        let a = || piece([start(kind), text(kind, "A")].concat());
        let half = {
            let mut text = text(kind, "half");
            text.truncate(text.len() / 2);
            text
        };
        for (name, steps, text, error) in [
            ("cut within the body", vec![a()], "A", Network),
            ("cut within an event", vec![a(), piece(half)], "A", Network),
            ("ended without an end", vec![a(), Step::End], "A", Protocol),
            ("nothing", vec![Step::End], "", Protocol),
            ("garbage", vec![a(), piece(format::garbage(kind)), Step::Stall], "A", Protocol),
            (
                "garbage behind text in one piece",
                vec![piece([format::text(kind, "A"), format::garbage(kind)].concat()), Step::Stall],
                "A",
                Protocol,
            ),
            (
                "too much",
                vec![a(), piece(format::overloaded(kind)), Step::Stall],
                "A",
                Overloaded { retry_after: None },
            ),
            (
                "too often",
                vec![a(), piece(format::limited(kind)), Step::Stall],
                "A",
                RateLimited { retry_after: None },
            ),
            (
                "too much before any text",
                vec![piece(start(kind)), piece(format::overloaded(kind)), Step::Stall],
                "",
                Overloaded { retry_after: None },
            ),
        ] {
            let steps = [vec![Step::Head], steps].concat();
            assert_eq!(answered(kind, steps).await, (text.into(), Err(error)), "{kind:?}: {name}");
        }
    }
}

#[tokio::test]
async fn an_endless_event_is_given_up() {
    for kind in Kind::ALL {
        let begun = match kind {
            // It promises 16 MiB.
            Kind::Bedrock => vec![1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0],
            _ => b"{\"x\": \"".to_vec(),
        };
        let flood = std::iter::repeat_n(Step::Chunk(vec![b'x'; 16 * 1024]), 18);
        let head = [Step::Head, Step::Chunk(text(kind, "A")), Step::Chunk(begun)];
        let steps = head.into_iter().chain(flood).chain([Step::Stall]).collect();
        let want = ("A".to_owned(), Err(ProviderErrorKind::Protocol));
        assert_eq!(answered(kind, steps).await, want, "{kind:?}");
    }
}

#[tokio::test]
async fn a_call_is_made_again_before_its_first_text_and_never_after() {
    for kind in Kind::ALL {
        let fine = answer(kind, &[text(kind, "Fine."), end(kind, Reason::Stop)]);
        let busy =
            vec![Step::Head, Step::Chunk(start(kind)), Step::Chunk(format::overloaded(kind))];
        let late = [&busy[..2], &[Step::Chunk(text(kind, "A"))], &busy[2..]].concat();
        let patient = |url: &str| Vendor {
            max_attempts: 3,
            retry_base: Duration::from_millis(5),
            ..configured(kind, url)
        };
        let server = RawHttp::start(vec![busy.clone(), vec![], fine.clone()]).await;
        let (texts, outcome) = read(&provider(&patient(&server.url)), request("m")).await;
        assert!(outcome.is_ok() && texts.concat() == "Fine.", "{kind:?}: {outcome:?}");
        assert_eq!(server.connections(), 3, "{kind:?}");

        let server = RawHttp::start(vec![late, fine]).await;
        let (texts, outcome) = read(&provider(&patient(&server.url)), request("m")).await;
        let overloaded = ProviderErrorKind::Overloaded { retry_after: None };
        assert_eq!((texts.concat().as_str(), outcome), ("A", Err(overloaded)), "{kind:?}");
        assert_eq!(server.connections(), 1, "{kind:?}");

        // With its budget used up, a failure is one.
        let server = RawHttp::start(vec![busy]).await;
        let config = Vendor { retry_budget: 0.01, max_attempts: 2, ..patient(&server.url) };
        let provider = provider(&config);
        for _ in 0..14 {
            open_error(&provider, "m").await;
        }
        assert_eq!(server.connections(), 14 + 10, "{kind:?}");
    }
}

#[tokio::test]
async fn dropping_a_stream_hangs_up_and_frees_its_place() {
    for kind in Kind::ALL {
        let steps = vec![Step::Head, Step::Chunk(text(kind, "A")), Step::Stall];
        let mut server = RawHttp::start(vec![steps]).await;
        let config = Vendor { max_concurrency: 1, ..configured(kind, &server.url) };
        let provider = provider(&config);
        let mut stream = provider.open(request("m")).await.expect("a stream");
        assert!(matches!(stream.next().await, Some(Ok(TextChunk::Text(text))) if text == "A"));
        let refused = open_error(&provider, "m").await;
        assert!(matches!(refused.kind, ProviderErrorKind::Overloaded { .. }), "{refused}");
        drop(stream);
        server.client_gone().await;
        assert!(provider.open(request("m")).await.is_ok(), "{kind:?}: the place is free again");
    }
}
