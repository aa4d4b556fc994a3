//! The chat-completions format: the request's body and a streamed chunk. Values only.
//!
//! A chunk borrows from the bytes it was read from, and only what a turn needs is read: one choice, its text, why it
//! finished, what it cost. Reasoning, tool calls and all that vendors add are passed over.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::providers::prompt::{Message, Role};

/// Models that take neither a temperature nor (under its old name) a token limit.
const REASONING_MODELS: [&str; 5] = ["o1", "o3", "o4", "gpt-5", "gpt-6"];

#[derive(Serialize)]
struct Call<'a> {
    model: &'a str,
    stream: bool,
    messages: Vec<Said<'a>>,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
}

#[derive(Serialize)]
struct Said<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> From<&'a Message> for Said<'a> {
    fn from(message: &'a Message) -> Self {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        Self { role, content: &message.content }
    }
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// The body of a call for streamed text. The model's name is sent as given.
///
/// # Errors
/// If it cannot be written as JSON, which no text can cause.
pub(super) fn call(
    model: &str,
    messages: &[Message],
    max_tokens: u32,
    temperature: f64,
) -> serde_json::Result<Vec<u8>> {
    let reasoning = REASONING_MODELS.iter().any(|prefix| model.starts_with(prefix));
    serde_json::to_vec(&Call {
        model,
        stream: true,
        messages: messages.iter().map(Said::from).collect(),
        stream_options: StreamOptions { include_usage: true },
        temperature: (!reasoning).then_some(temperature),
        max_tokens: (!reasoning).then_some(max_tokens),
        max_completion_tokens: reasoning.then_some(max_tokens),
    })
}

/// One `data:` of the stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk<'a> {
    /// An error object, or whatever the server puts in its place.
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, rename = "choices", deserialize_with = "first")]
    pub choice: Option<Choice<'a>>,
    /// Read by [`Chunk::tokens`]: no usage is worth a text.
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    finish_reason: Option<Word<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delta<'a> {
    #[serde(borrow, deserialize_with = "content")]
    content: Option<Cow<'a, str>>,
}

/// Serde would copy a bare `Option<Cow<str>>`.
#[derive(Debug, Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

/// What the vendor counted; absent counts are estimated by whoever asks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    pub prompt_tokens: Option<i64>,
    pub completion_tokens: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    Complete,
    Length,
    Filter,
}

impl<'a> Chunk<'a> {
    /// # Errors
    /// If it is no JSON or of another shape.
    pub(super) fn parse(data: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(data)
    }

    pub(super) fn tokens(&self) -> Option<Tokens> {
        let tokens: Tokens = serde_json::from_str(self.usage?.get()).ok()?;
        (tokens != Tokens::default()).then_some(tokens)
    }
}

impl Choice<'_> {
    pub(super) fn text(&self) -> &str {
        self.delta.as_ref().and_then(|delta| delta.content.as_deref()).unwrap_or_default()
    }

    pub(super) fn finish(&self) -> Option<Finish> {
        Some(match &*self.finish_reason.as_ref()?.0 {
            "length"
            | "max_tokens"
            | "MAX_TOKENS"
            | "incomplete"
            | "model_length"
            | "model_context_window_exceeded" => Finish::Length,
            "content_filter" | "refusal" | "SAFETY" | "RECITATION" | "BLOCKLIST"
            | "PROHIBITED_CONTENT" | "SPII" | "LANGUAGE" | "ERROR_TOXIC" => Finish::Filter,
            _ => Finish::Complete,
        })
    }
}

/// The first of `choices`; there is none in the chunk that carries the usage.
fn first<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Choice<'de>>, D::Error> {
    struct First;
    impl<'de> Visitor<'de> for First {
        type Value = Option<Choice<'de>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("choices")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let first = seq.next_element()?;
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    from.deserialize_any(First)
}

/// A string nearly always; some vendors send typed parts when the model thinks.
fn content<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Part<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Word<'a>>,
        #[serde(borrow)]
        text: Option<Word<'a>>,
    }

    struct Content;
    impl<'de> Visitor<'de> for Content {
        type Value = Option<Cow<'de, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text or parts of text")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Borrowed(text)))
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(text.to_owned())))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut whole = String::new();
            while let Some(part) = seq.next_element::<Part<'de>>()? {
                if part.kind.is_some_and(|kind| kind.0 == "text") {
                    whole.push_str(part.text.as_ref().map_or("", |text| &text.0));
                }
            }
            Ok(Some(Cow::Owned(whole)))
        }
    }
    from.deserialize_any(Content)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Text, finish, the vendor's counts, whether it is an error.
    type Read = (String, Option<Finish>, Option<(Option<i64>, Option<i64>)>, bool);

    fn read(chunk: &Value) -> Read {
        let bytes = chunk.to_string();
        let chunk =
            Chunk::parse(bytes.as_bytes()).unwrap_or_else(|error| panic!("{bytes}: {error}"));
        let choice = chunk.choice.as_ref();
        (
            choice.map(Choice::text).unwrap_or_default().to_owned(),
            choice.and_then(Choice::finish),
            chunk.tokens().map(|tokens| (tokens.prompt_tokens, tokens.completion_tokens)),
            chunk.error.is_some(),
        )
    }

    #[test]
    fn chunks_of_many_servers_are_read() {
        let choice = |choice: Value| json!({"id": "c", "choices": [choice], "usage": null});
        let text = |content: Value| choice(json!({"index": 0, "delta": {"content": content}}));
        let plain = |said: &str| (said.to_owned(), None, None, false);
        for (chunk, want) in [
            (text(json!("A")), plain("A")),
            (text(json!("“é”\n\"")), plain("“é”\n\"")),
            (text(json!(null)), plain("")),
            (choice(json!({"delta": null, "finish_reason": null})), plain("")),
            (choice(json!({"delta": {"reasoning_content": "hm", "reasoning": "hm"}})), plain("")),
            (choice(json!({"delta": {"tool_calls": [{"index": 0}]}})), plain("")),
            (
                text(json!([
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "A"},
                ])),
                plain("A"),
            ),
            (
                json!({"choices": [{"delta": {"content": "A"}}, {"delta": {"content": "B"}}]}),
                plain("A"),
            ),
            (json!({"choices": null, "error": null, "prompt_filter_results": [{}]}), plain("")),
            (json!({"object": "ping"}), plain("")),
            (
                choice(json!({"delta": {"content": "A"}, "finish_reason": "length"})),
                ("A".into(), Some(Finish::Length), None, false),
            ),
            (
                choice(json!({"finish_reason": "content_filter"})),
                (String::new(), Some(Finish::Filter), None, false),
            ),
            (
                choice(json!({"finish_reason": "eos"})),
                (String::new(), Some(Finish::Complete), None, false),
            ),
            (
                json!({"choices": [], "usage": {"prompt_tokens": 3, "total_tokens": 9, "details": {}}}),
                (String::new(), None, Some((Some(3), None)), false),
            ),
            (json!({"choices": [], "usage": {"prompt_tokens": "many"}}), plain("")),
            (json!({"choices": [], "usage": {}}), plain("")),
            (json!({"error": "what"}), (String::new(), None, None, true)),
        ] {
            assert_eq!(read(&chunk), want, "{chunk}");
        }
        for bad in ["", "{", "3", r#"{"choices":3}"#, r#"{"choices":[{"delta":{"content":5}}]}"#] {
            assert!(Chunk::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_text_is_not_copied() {
        let chunk =
            Chunk::parse(br#"{"choices":[{"delta":{"content":"A"},"finish_reason":"stop"}]}"#);
        let choice = chunk.expect("a chunk").choice.expect("a choice");
        assert!(matches!(choice.delta.and_then(|delta| delta.content), Some(Cow::Borrowed("A"))));
        assert!(matches!(choice.finish_reason, Some(Word(Cow::Borrowed("stop")))));
    }
}
