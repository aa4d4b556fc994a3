//! Going on with a scene that broke off.

use serde_json::json;
use whatif::config::{Continuation, Kind, Vendor};
use whatif::providers::text::StoryRequest;

use super::format::{Reason, answer, end, text};
use super::{configured, provider, read, request};
use crate::support::aimock::Aimock;
use crate::support::raw_http::{RawHttp, Step};

fn broken(shown: &str) -> StoryRequest {
    StoryRequest { shown: shown.into(), ..request("claude-haiku-4-5") }
}

#[tokio::test]
async fn a_model_that_refuses_its_own_words_is_asked_instead() {
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"This model does not support assistant message prefill."}}"#;
    let refusal = format!("HTTP/1.1 400 No\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let kind = Kind::Anthropic;
    let fine = answer(kind, &[text(kind, "k."), end(kind, Reason::Stop)]);
    let server = RawHttp::start(vec![vec![Step::Raw(refusal)], fine]).await;
    let provider = provider(&configured(kind, &server.url));
    let (texts, outcome) = read(&provider, broken("The old wor")).await;
    assert!(outcome.is_ok() && texts == ["k."], "{texts:?} {outcome:?}");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn white_space_that_a_model_may_not_be_given_is_not_shown_twice() {
    let kind = Kind::Anthropic;
    for (shown, pieces, want) in [
        ("It fell. ", ["", " Then"], "Then"),
        ("It fell.\n\n", ["\n", "\n Then"], "Then"),
        ("It fell.", [" ", "Then"], " Then"),
        ("It fel", ["l.", " Then"], "l. Then"),
    ] {
        let pieces = [text(kind, pieces[0]), text(kind, pieces[1]), end(kind, Reason::Stop)];
        let server = RawHttp::start(vec![answer(kind, &pieces)]).await;
        let (texts, _) = read(&provider(&configured(kind, &server.url)), broken(shown)).await;
        assert_eq!(texts.concat(), want, "{shown:?}");
    }
}

#[tokio::test]
async fn how_it_is_done_can_be_configured_and_choices_alone_are_always_asked_for() {
    let mock = Aimock::start().await;
    let own = |continuation, kind| Vendor { continuation, ..configured(kind, mock.url()) };
    let shown = "The old wor".to_owned();
    for (number, (config, prose_done, last)) in [
        (own(Continuation::Prefill, Kind::OpenAi), false, "assistant"),
        (own(Continuation::Auto, Kind::OpenAi), false, "user"),
        (own(Continuation::Ask, Kind::Ollama), false, "user"),
        (own(Continuation::Auto, Kind::Ollama), false, "assistant"),
        (own(Continuation::Prefill, Kind::Ollama), true, "user"),
    ]
    .into_iter()
    .enumerate()
    {
        let model = format!("m{number}");
        mock.fixtures(json!([{"match": {"model": model}, "response": {"content": "k."}}])).await;
        let request = StoryRequest { shown: shown.clone(), prose_done, ..request(&model) };
        read(&provider(&config), request).await.1.expect("an answer");
        let calls = mock.requests(&model).await;
        let messages = calls[0]["body"]["messages"].as_array().expect("messages").clone();
        assert_eq!(messages.last().expect("a message")["role"], last, "{model}");
        let whole = calls[0]["body"]["continue_final_message"] == true;
        assert_eq!(whole, config.kind == Kind::OpenAi && last == "assistant", "{model}");
    }
}

/// What is missing of a scene is asked for as an object, where the vendor can be held to one.
#[tokio::test]
async fn the_rest_of_a_scene_is_asked_for_as_an_object() {
    let mock = Aimock::start().await;
    for (number, kind) in [Kind::OpenAi, Kind::Gemini].into_iter().enumerate() {
        let model = format!("rest{number}");
        mock.fixtures(json!([{"match": {"model": model}, "response": {"content": "{}"}}])).await;
        let rest = StoryRequest { prose_done: true, ..broken("The wall fell.") };
        let rest = StoryRequest { model: Some(model.clone()), ..rest };
        read(&provider(&configured(kind, mock.url())), rest).await.1.expect("an answer");
        let sent = &mock.requests(&model).await[0]["body"];
        let schema = &sent["response_format"]["json_schema"]["schema"];
        assert_eq!(
            schema["required"] == json!(["choices", "state"]),
            kind == Kind::OpenAi,
            "{sent}"
        );
    }
}

#[tokio::test]
async fn a_server_that_knows_no_schemas_is_asked_in_plain_words() {
    let body = r#"{"error":{"message":"Unknown parameter: response_format","type":"invalid_request_error"}}"#;
    let refusal = format!("HTTP/1.1 400 No\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let kind = Kind::OpenAi;
    let fine = answer(kind, &[text(kind, "1. Flee"), end(kind, Reason::Stop)]);
    let server = RawHttp::start(vec![vec![Step::Raw(refusal)], fine]).await;
    let rest = StoryRequest { prose_done: true, ..broken("The wall fell.") };
    let (texts, outcome) = read(&provider(&configured(kind, &server.url)), rest).await;
    assert!(outcome.is_ok() && texts == ["1. Flee"], "{texts:?} {outcome:?}");
    assert_eq!(server.connections(), 2);
}
