//! A real server: llama.cpp with a model of random weights, which `scripts/servers` makes. What it says has no sense; how it
//! says it is real, in OpenAI's format and in Anthropic's.

use std::time::Duration;

use futures::StreamExt;
use whatif::config::{Continuation, Kind, Vendor};
use whatif::providers::text::{EndReason, ProviderErrorKind, StoryRequest, TextChunk};

use super::{configured, provider, read, request};
use crate::support::servers;

const KINDS: [Kind; 2] = [Kind::OpenAi, Kind::Anthropic];

fn own(kind: Kind) -> Vendor {
    Vendor { max_output_tokens: 24, ..configured(kind, &servers::llama()) }
}

#[tokio::test]
async fn it_streams_to_its_limit_and_counts() {
    for kind in KINDS {
        let (texts, outcome) = read(&provider(&own(kind)), request("noise")).await;
        let (reason, usage) = outcome.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        assert_eq!((reason, usage.output_tokens), (EndReason::Length, 24), "{kind:?}");
        assert!(usage.input_tokens > 500, "{kind:?}: the rules are long: {usage:?}");
        assert!(texts.concat().len() >= 24, "{kind:?}: {texts:?}");
    }
}

#[tokio::test]
async fn it_goes_on_from_the_start_of_its_answer_and_when_asked() {
    for kind in KINDS {
        let mut counted = Vec::new();
        for continuation in [Continuation::Prefill, Continuation::Ask] {
            let config = Vendor { continuation, ..own(kind) };
            let shown = "The wall, the old wor".to_owned();
            let broken = StoryRequest { shown, ..request("noise") };
            let (texts, outcome) = read(&provider(&config), broken).await;
            let (_, usage) =
                outcome.unwrap_or_else(|error| panic!("{kind:?} {continuation:?}: {error:?}"));
            assert!(!texts.concat().is_empty(), "{kind:?} {continuation:?}");
            counted.push(usage.input_tokens);
        }
        // In Anthropic's format it leaves the counts out now and then; they are estimated then.
        let more = kind == Kind::Anthropic || counted[0] < counted[1];
        assert!(more, "{kind:?}: who is asked is told more: {counted:?}");
    }
}

#[tokio::test]
async fn it_says_what_it_does_not_take_and_that_it_lives() {
    for kind in KINDS {
        provider(&own(kind)).probe().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        // More than the model's context holds.
        let long = StoryRequest { shown: "word ".repeat(5_000), ..request("noise") };
        let (texts, outcome) = read(&provider(&own(kind)), long).await;
        assert_eq!((texts.len(), outcome), (0, Err(ProviderErrorKind::BadRequest)), "{kind:?}");
    }
}

#[tokio::test]
async fn it_stops_when_nobody_listens() {
    let config = Vendor { max_output_tokens: 4_000, max_concurrency: 1, ..own(Kind::OpenAi) };
    let provider = provider(&config);
    let mut stream = provider.open(request("noise")).await.expect("a stream");
    assert!(matches!(stream.next().await, Some(Ok(TextChunk::Text(_)))));
    drop(stream);
    // It has one place: the next answer begins when the first has ended.
    let next = tokio::time::timeout(Duration::from_secs(20), provider.open(request("noise")));
    assert!(next.await.is_ok_and(|opened| opened.is_ok()));
}
