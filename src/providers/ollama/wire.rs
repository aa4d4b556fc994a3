//! The `/api/chat` format: the request's body and a line of the answer.

use serde::{Deserialize, Serialize};

use crate::providers::prompt::{Message, Role};
use crate::providers::remote::Ask;
use crate::providers::remote::said::{Finish, Said, Tokens};
use crate::providers::remote::wire::{Events, Word};

#[derive(Serialize)]
pub(super) struct Body<'a> {
    model: &'a str,
    messages: Vec<Turn<'a>>,
    stream: bool,
    options: Options,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'a serde_json::Value>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Options {
    num_predict: u32,
    /// The server's own default cuts a long story's start off, and says nothing.
    num_ctx: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
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

/// The body of a call for streamed text.
pub(super) fn body<'a>(ask: &Ask<'a>, context_tokens: u32) -> Body<'a> {
    Body {
        model: ask.model,
        messages: ask.messages.iter().map(Turn::from).collect(),
        stream: true,
        options: Options {
            num_predict: ask.max_output_tokens,
            num_ctx: context_tokens,
            temperature: ask.temperature,
        },
        format: ask.schema,
    }
}

#[derive(Default)]
pub(in crate::providers) struct ChatEvents;

impl Events for ChatEvents {
    fn hear(&mut self, data: &[u8], said: &mut Said) {
        let line: Line<'_> = match serde_json::from_slice(data) {
            Ok(line) => line,
            Err(error) => return said.garbled("unreadable line", &error),
        };
        if let Some(error) = line.error {
            return said.failed(&error);
        }
        let text = line.message.and_then(|message| message.content);
        said.text(text.as_deref().unwrap_or_default());
        if line.done {
            said.tokens(Tokens {
                input: line.prompt_eval_count,
                cached: None,
                output: line.eval_count,
            });
            // Servers of old gave no reason.
            let reason = line.done_reason.as_ref().map_or("stop", |reason| &**reason);
            said.finish(Finish::of(reason));
            said.end();
        }
    }
}

/// One line of the answer.
#[derive(Deserialize)]
struct Line<'a> {
    /// A string, as a rule.
    #[serde(default)]
    error: Option<serde_json::Value>,
    #[serde(borrow, default)]
    message: Option<Part<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    done_reason: Option<Word<'a>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    content: Option<Word<'a>>,
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
        insta::assert_json_snapshot!(body(&ask, 4096), @r#"
        {
          "model": "m",
          "messages": [
            {
              "role": "system",
              "content": "Rules."
            },
            {
              "role": "user",
              "content": "Task."
            },
            {
              "role": "assistant",
              "content": "The wall"
            }
          ],
          "stream": true,
          "options": {
            "num_predict": 9,
            "num_ctx": 4096
          }
        }
        "#);
        let schema = crate::providers::prompt::rest_schema();
        let held = Ask { schema: Some(&schema), ..ask };
        let sent = serde_json::to_value(body(&held, 4096)).expect("JSON");
        assert_eq!(sent["format"]["type"], "object");
    }
}
