//! The Messages format: the request's body and the events of a streamed answer.
//!
//! The events differ in their `type`; what they carry is read by one borrowing type, which has room for all of it. Thinking,
//! tool calls and all that is added later are passed over.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::providers::prompt::{Message, Role};
use crate::providers::remote::Ask;
use crate::providers::remote::said::{Finish, Said, Tokens};
use crate::providers::remote::wire::{Events, Word};

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    system: [Block<'a>; 1],
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Serialize)]
struct Block<'a> {
    r#type: &'static str,
    text: &'a str,
    cache_control: CacheControl,
}

#[derive(Serialize)]
struct CacheControl {
    r#type: &'static str,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: &'a str,
}

impl<'a> From<&'a Message> for Turn<'a> {
    fn from(message: &'a Message) -> Self {
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        Self { role, content: &message.content }
    }
}

/// The body of a call for streamed text.
pub(super) fn body<'a>(ask: &'a Ask<'a>) -> Body<'a> {
    let (system, messages) = ask.split();
    Body {
        model: ask.model,
        max_tokens: ask.max_output_tokens,
        stream: true,
        // The rules are the same in every call.
        system: [Block {
            r#type: "text",
            text: system,
            cache_control: CacheControl { r#type: "ephemeral" },
        }],
        messages: messages.iter().map(Turn::from).collect(),
        temperature: ask.temperature,
    }
}

#[derive(Default)]
pub(in crate::providers) struct MessageEvents;

impl Events for MessageEvents {
    fn hear(&mut self, data: &[u8], said: &mut Said) {
        let event: Event<'_> = match serde_json::from_slice(data) {
            Ok(event) => event,
            Err(error) => return said.garbled("unreadable event", &error),
        };
        match &*event.r#type {
            "content_block_delta" | "content_block_start" => {
                let text = event.delta.or(event.content_block).and_then(|delta| delta.text);
                said.text(text.as_deref().unwrap_or_default());
            }
            "message_start" => {
                if let Some(message) = event.message
                    && let Some(usage) = usage(message.usage)
                {
                    // The output is counted at the end.
                    said.tokens(Tokens { output: None, ..usage });
                }
            }
            "message_delta" => {
                if let Some(reason) = event.delta.and_then(|delta| delta.stop_reason) {
                    said.finish(Finish::of(&reason));
                }
                if let Some(usage) = usage(event.usage) {
                    said.tokens(usage);
                }
            }
            "message_stop" => said.end(),
            "error" => {
                let error = event.error.map(|error| serde_json::from_str(error.get()));
                said.failed(&error.and_then(Result::ok).unwrap_or_default());
            }
            // `ping`, `content_block_stop`, and what is yet to come.
            _ => {}
        }
    }
}

/// One `data:` of the stream.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Word<'a>,
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    content_block: Option<Delta<'a>>,
    #[serde(borrow, default)]
    message: Option<Started<'a>>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    /// Of a `text` block or a `text_delta`; others have none.
    #[serde(borrow, default)]
    text: Option<Word<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Word<'a>>,
}

#[derive(Deserialize)]
struct Started<'a> {
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Counts {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// No usage is worth a text: what cannot be read is not counted.
fn usage(counts: Option<&RawValue>) -> Option<Tokens> {
    let counts: Counts = serde_json::from_str(counts?.get()).ok()?;
    let cached = counts.cache_read_input_tokens;
    // The vendor counts the three parts of a prompt apart.
    let input = counts
        .input_tokens
        .map(|fresh| fresh + counts.cache_creation_input_tokens.unwrap_or(0) + cached.unwrap_or(0));
    Some(Tokens { input, cached, output: counts.output_tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_what_the_vendor_documents() {
        let said = |role, text: &str| Message { role, content: text.into() };
        let messages = [
            said(Role::System, "Rules."),
            said(Role::User, "Task."),
            said(Role::Assistant, "The wall"),
        ];
        let ask = Ask {
            model: "m",
            messages: &messages,
            prefilled: true,
            max_output_tokens: 9,
            schema: None,
            temperature: None,
        };
        insta::assert_json_snapshot!(body(&ask), @r#"
        {
          "model": "m",
          "max_tokens": 9,
          "stream": true,
          "system": [
            {
              "type": "text",
              "text": "Rules.",
              "cache_control": {
                "type": "ephemeral"
              }
            }
          ],
          "messages": [
            {
              "role": "user",
              "content": "Task."
            },
            {
              "role": "assistant",
              "content": "The wall"
            }
          ]
        }
        "#);
    }
}
