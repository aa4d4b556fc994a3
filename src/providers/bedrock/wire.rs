//! The Converse format: the request's body, and an answer of framed messages, each with headers and a JSON payload.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_eventstream::smithy::parse_response_headers;
use aws_smithy_types::event_stream::Message as Framed;
use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::providers::prompt::{Message, Role};
use crate::providers::remote::Ask;
use crate::providers::remote::said::{Finish, Said, Tokens};
use crate::providers::remote::wire::{FrameError, MAX_EVENT_BYTES, Wire, Word};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    messages: Vec<Turn<'a>>,
    inference_config: InferenceConfig,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: [Block<'a>; 1],
}

#[derive(Serialize)]
struct Block<'a> {
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InferenceConfig {
    max_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

impl<'a> From<&'a Message> for Turn<'a> {
    fn from(message: &'a Message) -> Self {
        let role = if message.role == Role::Assistant { "assistant" } else { "user" };
        Self { role, content: [Block { text: &message.content }] }
    }
}

/// The body of a call for text, streamed or not.
pub(super) fn body<'a>(ask: &'a Ask<'a>) -> Body<'a> {
    let (system, messages) = ask.split();
    let system = Some(system).filter(|text| !text.is_empty());
    Body {
        system: system.into_iter().map(|text| Block { text }).collect(),
        messages: messages.iter().map(Turn::from).collect(),
        inference_config: InferenceConfig {
            max_tokens: ask.max_output_tokens,
            temperature: ask.temperature,
        },
    }
}

/// Reads the messages of one answer.
#[derive(Default)]
pub(in crate::providers) struct ConverseWire {
    decoder: MessageFrameDecoder,
    /// What the decoder has not taken yet: less than one message.
    rest: BytesMut,
}

impl Wire for ConverseWire {
    fn push(&mut self, piece: &[u8], said: &mut Said) -> Result<bool, FrameError> {
        self.rest.extend_from_slice(piece);
        let mut any = false;
        while said.flow().is_continue() {
            match self.decoder.decode_frame(&mut self.rest) {
                Ok(DecodedFrame::Complete(message)) => {
                    any = true;
                    hear(&message, said)?;
                }
                Ok(DecodedFrame::Incomplete) => break,
                Err(error) => return Err(unreadable(&error)),
            }
        }
        if self.rest.len() > MAX_EVENT_BYTES {
            return Err(FrameError::TooLong);
        }
        Ok(any)
    }

    fn finish(&mut self, said: &mut Said) -> Result<(), FrameError> {
        // The counts follow the reason to stop, and are not worth a scene.
        if said.is_finished() {
            said.end();
        }
        Ok(())
    }
}

fn unreadable(error: &dyn std::error::Error) -> FrameError {
    FrameError::Unreadable(error.to_string())
}

fn hear(message: &Framed, said: &mut Said) -> Result<(), FrameError> {
    let headers = parse_response_headers(message).map_err(|error| unreadable(&error))?;
    let payload = message.payload();
    if headers.message_type.as_str() != "event" {
        // What the vendor calls it, in the words of all others.
        let told: Value = serde_json::from_slice(payload).unwrap_or_default();
        said.failed(&json!({"type": headers.smithy_type.as_str(), "message": told.get("message")}));
        return Ok(());
    }
    let event: Event<'_> = match serde_json::from_slice(payload) {
        Ok(event) => event,
        Err(error) => {
            said.garbled("unreadable event", &error);
            return Ok(());
        }
    };
    match headers.smithy_type.as_str() {
        "contentBlockDelta" => {
            let text = event.delta.and_then(|delta| delta.text);
            said.text(text.as_deref().unwrap_or_default());
        }
        "messageStop" => {
            let reason = event.stop_reason.as_ref().map_or("end_turn", |reason| &**reason);
            said.finish(Finish::of(reason));
        }
        "metadata" => {
            if let Some(counts) = event.usage {
                said.tokens(counts.into());
            }
            said.end();
        }
        // `messageStart`, `contentBlockStart`, `contentBlockStop`, and what is yet to come.
        _ => {}
    }
    Ok(())
}

/// The payload of a message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow, default)]
    delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    stop_reason: Option<Word<'a>>,
    #[serde(default)]
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    /// Thoughts and calls of tools have none.
    #[serde(borrow, default)]
    text: Option<Word<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
}

impl From<Counts> for Tokens {
    fn from(counts: Counts) -> Self {
        let cached = counts.cache_read_input_tokens;
        let input = counts.input_tokens.map(|fresh| {
            fresh + cached.unwrap_or(0) + counts.cache_write_input_tokens.unwrap_or(0)
        });
        Tokens { input, cached, output: counts.output_tokens }
    }
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
          "system": [
            {
              "text": "Rules."
            }
          ],
          "messages": [
            {
              "role": "user",
              "content": [
                {
                  "text": "Task."
                }
              ]
            },
            {
              "role": "assistant",
              "content": [
                {
                  "text": "The wall"
                }
              ]
            }
          ],
          "inferenceConfig": {
            "maxTokens": 9
          }
        }
        "#);
    }
}
