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
use crate::providers::remote::Ask;
use crate::providers::remote::said::{Finish, Said, Tokens};
use crate::providers::remote::wire::{Events, Word};

/// Models that take neither a temperature nor (under its old name) a token limit.
const REASONING_MODELS: [&str; 5] = ["o1", "o3", "o4", "gpt-5", "gpt-6"];

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    stream: bool,
    messages: Vec<Turn<'a>>,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    /// vLLM's words for going on with the last message; llama.cpp does so by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_final_message: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add_generation_prompt: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> From<&'a Message> for Turn<'a> {
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
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'static str,
    schema: &'a serde_json::Value,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

/// The body of a call for streamed text. The model's name is sent as given.
pub(super) fn body<'a>(ask: &Ask<'a>) -> Body<'a> {
    let reasoning = REASONING_MODELS.iter().any(|prefix| ask.model.starts_with(prefix));
    Body {
        model: ask.model,
        stream: true,
        messages: ask.messages.iter().map(Turn::from).collect(),
        stream_options: StreamOptions { include_usage: true },
        temperature: ask.temperature.filter(|_| !reasoning),
        max_tokens: (!reasoning).then_some(ask.max_output_tokens),
        max_completion_tokens: reasoning.then_some(ask.max_output_tokens),
        continue_final_message: ask.prefilled.then_some(true),
        add_generation_prompt: ask.prefilled.then_some(false),
        response_format: ask.schema.map(|schema| ResponseFormat {
            kind: "json_schema",
            json_schema: JsonSchema { name: "rest_of_scene", schema },
        }),
    }
}

#[derive(Default)]
pub(in crate::providers) struct ChatEvents;

impl Events for ChatEvents {
    fn hear(&mut self, data: &[u8], said: &mut Said) {
        if data == b"[DONE]" {
            return said.end();
        }
        let chunk = match Chunk::parse(data) {
            Ok(chunk) => chunk,
            Err(error) => return said.garbled("unreadable event", &error),
        };
        if let Some(error) = chunk.error {
            return said.failed(&serde_json::from_str(error.get()).unwrap_or_default());
        }
        if let Some(choice) = &chunk.choice {
            said.text(choice.text());
            if let Some(finish) = choice.finish() {
                said.finish(finish);
            }
        }
        if let Some(tokens) = chunk.tokens() {
            said.tokens(tokens);
        }
    }
}

/// One `data:` of the stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Chunk<'a> {
    /// An error object, or whatever the server puts in its place.
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow, rename = "choices", deserialize_with = "first")]
    choice: Option<Choice<'a>>,
    /// Read by [`Chunk::tokens`]: no usage is worth a text.
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Choice<'a> {
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

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counts {
    prompt_tokens: Option<i64>,
    completion_tokens: Option<i64>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    cached_tokens: Option<i64>,
}

impl<'a> Chunk<'a> {
    /// # Errors
    /// If it is no JSON or of another shape.
    fn parse(data: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(data)
    }

    fn tokens(&self) -> Option<Tokens> {
        let counts: Counts = serde_json::from_str(self.usage?.get()).ok()?;
        let whole = |count: Option<i64>| count.map(|count| u64::try_from(count).unwrap_or(0));
        let tokens = Tokens {
            input: whole(counts.prompt_tokens),
            cached: whole(counts.prompt_tokens_details.and_then(|details| details.cached_tokens)),
            output: whole(counts.completion_tokens),
        };
        (tokens != Tokens::default()).then_some(tokens)
    }
}

impl Choice<'_> {
    fn text(&self) -> &str {
        self.delta.as_ref().and_then(|delta| delta.content.as_deref()).unwrap_or_default()
    }

    fn finish(&self) -> Option<Finish> {
        self.finish_reason.as_ref().map(|reason| Finish::of(reason))
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
    type Read = (String, Option<Finish>, Option<(Option<u64>, Option<u64>)>, bool);

    fn read(chunk: &Value) -> Read {
        let bytes = chunk.to_string();
        let chunk =
            Chunk::parse(bytes.as_bytes()).unwrap_or_else(|error| panic!("{bytes}: {error}"));
        let choice = chunk.choice.as_ref();
        (
            choice.map(Choice::text).unwrap_or_default().to_owned(),
            choice.and_then(Choice::finish),
            chunk.tokens().map(|tokens| (tokens.input, tokens.output)),
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
