//! Every format against `aimock`, a mock server by other people. It takes calls apart into messages of its own, so that what
//! it understood can be asked.

use std::time::{Duration, Instant};

use serde_json::json;
use whatif::config::{Kind, Vendor};
use whatif::domain::patch::Object;
use whatif::domain::scenario::{Choice, Usage};
use whatif::domain::turn_format::render;
use whatif::providers::text::{EndReason, ProviderErrorKind, StoryRequest};

use super::{KEY, configured, open_error, provider, read, request, told};
use crate::support::aimock::Aimock;

/// OpenAI's has tests of its own. The mock counts nothing for Ollama, and does not decode paths.
const KINDS: [Kind; 4] = [Kind::Anthropic, Kind::Gemini, Kind::Bedrock, Kind::Ollama];

fn scene() -> String {
    let choice = |label: &str| Choice { id: String::new(), label: label.into(), hint: None };
    let prose = "The gate fell — “quietly”, said some. 漢𝄞\n\nNobody spoke.";
    render(prose, &[choice("Run"), choice("Stay")], &Object::new())
}

#[tokio::test]
async fn a_scene_streams_and_the_call_is_understood() {
    let mock = Aimock::start().await;
    let scene = scene();
    for kind in KINDS {
        let model = format!("m.{}-v1", kind.as_str());
        let usage = json!({"prompt_tokens": 321, "completion_tokens": 45, "input_tokens": 321, "output_tokens": 45});
        mock.fixtures(json!([{
            "match": {"model": model}, "chunkSize": 7, "latency": 2,
            "response": {"content": scene, "usage": usage},
        }]))
        .await;
        let config = Vendor {
            temperature: Some(0.5),
            max_output_tokens: 321,
            ..configured(kind, mock.url())
        };
        let (texts, outcome) = read(&provider(&config), request(&model)).await;
        assert!(texts.len() > 5, "{kind:?} streams: {texts:?}");
        assert_eq!(texts.concat(), scene, "{kind:?}");
        let (reason, counted) = outcome.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
        assert_eq!(reason, EndReason::Complete, "{kind:?}");
        if kind != Kind::Ollama {
            assert_eq!(counted, Usage { input_tokens: 321, output_tokens: 45 }, "{kind:?}");
        }

        let calls = mock.requests(&model).await;
        let call = &calls[0];
        let told = told(call);
        let roles: Vec<_> = told.iter().map(|(role, _)| &**role).collect();
        assert_eq!(roles, ["system", "user"], "{kind:?}");
        assert!(told[0].1.contains("<<<CHOICES>>>") && told[1].1.contains("Rome"), "{kind:?}");
        assert_eq!(call["body"]["temperature"], json!(0.5), "{kind:?}");
        // It hides what they hold.
        let credentials = match kind {
            Kind::Anthropic => "x-api-key",
            Kind::Gemini => "x-goog-api-key",
            Kind::Bedrock => "x-amz-date",
            _ => "authorization",
        };
        assert!(call["headers"].get(credentials).is_some(), "{kind:?}: {call}");
    }
}

#[tokio::test]
async fn a_finish_says_why() {
    let mock = Aimock::start().await;
    // The mock's Ollama only ever ends well.
    for kind in [Kind::Anthropic, Kind::Gemini, Kind::Bedrock] {
        let filter = match kind {
            Kind::Anthropic => "refusal",
            Kind::Bedrock => "guardrail_intervened",
            _ => "content_filter",
        };
        for reason in ["stop", "length", filter] {
            let model = format!("{}-{reason}", kind.as_str());
            let response = json!({"content": "Some text.", "finishReason": reason});
            mock.fixtures(json!([{"match": {"model": model}, "response": response}])).await;
            let provider = provider(&configured(kind, mock.url()));
            let (texts, outcome) = read(&provider, request(&model)).await;
            assert_eq!(texts.concat(), "Some text.", "{kind:?} {reason}");
            let want = match reason {
                "stop" => Ok(EndReason::Complete),
                "length" => Ok(EndReason::Length),
                _ => Err(ProviderErrorKind::ContentFilter),
            };
            assert_eq!(outcome.map(|(reason, _)| reason), want, "{kind:?} {reason}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_tools_alone_is_an_empty_scene() {
    let mock = Aimock::start().await;
    for kind in KINDS {
        let model = format!("{}-tools", kind.as_str());
        let call = json!({"name": "f", "arguments": "{\"a\":1}"});
        mock.fixtures(json!([{"match": {"model": model}, "response": {"toolCalls": [call]}}]))
            .await;
        let (texts, outcome) =
            read(&provider(&configured(kind, mock.url())), request(&model)).await;
        assert!(texts.is_empty() && outcome.is_ok(), "{kind:?}: {texts:?} {outcome:?}");
    }
}

#[tokio::test]
async fn error_statuses_have_their_class_and_only_passing_ones_are_tried_again() {
    use ProviderErrorKind::*;
    let mock = Aimock::start().await;
    let second = Some(Duration::from_secs(1));
    for kind in KINDS {
        for (status, code, class, tries) in [
            (401, "authentication_error", Auth, 1),
            (403, "permission_error", Auth, 1),
            (400, "invalid_request_error", BadRequest, 1),
            (404, "not_found_error", BadRequest, 1),
            (429, "rate_limit_error", RateLimited { retry_after: second }, 2),
            (500, "api_error", Overloaded { retry_after: None }, 2),
            (529, "overloaded_error", Overloaded { retry_after: None }, 2),
        ] {
            let model = format!("{}-{status}", kind.as_str());
            let error = json!({"message": format!("no, {KEY}"), "type": code});
            let response = json!({"error": error, "status": status});
            mock.fixtures(json!([{"match": {"model": model}, "response": response}])).await;
            let config = Vendor {
                max_attempts: 2,
                retry_base: Duration::from_millis(10),
                ..configured(kind, mock.url())
            };
            let error = open_error(&provider(&config), &model).await;
            assert_eq!(error.kind, class, "{model}: {error}");
            assert_eq!(mock.requests(&model).await.len(), tries, "{model}");
            assert!(!error.message.contains(KEY), "{error}");
        }
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_for() {
    let mock = Aimock::start().await;
    for kind in KINDS {
        let model = format!("{}-soon", kind.as_str());
        let limit = json!({"error": {"message": "slow down"}, "status": 429, "retryAfter": 1});
        mock.fixtures(json!([
            {"match": {"model": model, "sequenceIndex": 0}, "response": limit},
            {"match": {"model": model}, "response": {"content": "Now."}},
        ]))
        .await;
        let config = Vendor { max_attempts: 2, ..configured(kind, mock.url()) };
        let started = Instant::now();
        let (texts, outcome) = read(&provider(&config), request(&model)).await;
        assert!(outcome.is_ok() && texts.concat() == "Now.", "{kind:?}: {outcome:?}");
        assert!(started.elapsed() >= Duration::from_secs(1), "{kind:?}");
    }
}

#[tokio::test]
async fn what_readers_have_seen_is_the_start_of_the_answer_or_asked_about() {
    let mock = Aimock::start().await;
    let shown = "The wall, the old wor".to_owned();
    for (kind, model, prefilled) in [
        (Kind::Anthropic, "claude-haiku-4-5", true),
        (Kind::Anthropic, "claude-opus-4-8", false),
        (Kind::Bedrock, "eu.anthropic.claude-haiku-4-5-20251001-v1", true),
        (Kind::Bedrock, "amazon.nova-lite-v1", false),
        (Kind::Gemini, "gemini-3.5-flash-lite", false),
        (Kind::Ollama, "llama3.2", true),
    ] {
        mock.fixtures(json!([{"match": {"model": model}, "response": {"content": "k of kings."}}]))
            .await;
        let broken = StoryRequest { shown: shown.clone(), ..request(model) };
        let (texts, _) = read(&provider(&configured(kind, mock.url())), broken).await;
        assert_eq!(texts.concat(), "k of kings.");
        let told = told(&mock.requests(model).await[0]);
        let roles: Vec<_> = told.iter().map(|(role, _)| &**role).collect();
        let (_, last) = told.last().expect("a message");
        if prefilled {
            assert_eq!(roles, ["system", "user", "assistant"], "{model}");
            assert_eq!(last, &shown, "{model}");
        } else {
            assert_eq!(roles, ["system", "user", "assistant", "user"], "{model}");
            assert!(last.contains("Continue exactly after"), "{model}: {last}");
        }
    }
}

#[tokio::test]
async fn a_probe_tells_the_living_from_the_rest() {
    let mock = Aimock::start().await;
    mock.fixtures(json!([{"match": {"model": "m"}, "response": {"content": "Hi."}}])).await;
    for kind in KINDS {
        let config = Vendor { model: "m".into(), ..configured(kind, mock.url()) };
        provider(&config).probe().await.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        let gone = Vendor { base_url: Some("http://127.0.0.1:1".into()), ..config };
        let error = provider(&gone).probe().await.map_err(|error| error.kind);
        assert_eq!(error, Err(ProviderErrorKind::Network), "{kind:?}");
    }
}
