//! The `generateContent` format: the request's body and a streamed chunk.
//!
//! A chunk borrows from the bytes it was read from, and only what a turn needs is read: one candidate, its text, why it
//! finished, what it cost. Thoughts and calls of functions are passed over. There is no last event: an answer is whole
//! when its body ends after a reason to finish.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::providers::prompt::{Message, Role};
use crate::providers::remote::Ask;
use crate::providers::remote::said::{Finish, Said, Tokens};
use crate::providers::remote::wire::{Events, Word};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    system_instruction: Content<'a>,
    contents: Vec<Content<'a>>,
    generation_config: GenerationConfig,
}

#[derive(Serialize)]
struct Content<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    parts: [Text<'a>; 1],
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking>,
}

/// Thoughts count as output, and a scene needs none.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Thinking {
    /// In tokens; up to 2.5.
    ThinkingBudget(u32),
    /// In words; since 3, where it cannot be turned off.
    ThinkingLevel(&'static str),
}

impl Thinking {
    /// As little as the model allows. Models of unknown names think as they like.
    fn least(model: &str) -> Option<Self> {
        let model = model.strip_prefix("models/").unwrap_or(model);
        if model.starts_with("gemini-2.5-flash") {
            Some(Thinking::ThinkingBudget(0))
        } else if model.starts_with("gemini-3") {
            Some(Thinking::ThinkingLevel("low"))
        } else {
            None
        }
    }
}

impl<'a> From<&'a Message> for Content<'a> {
    fn from(message: &'a Message) -> Self {
        let role = if message.role == Role::Assistant { "model" } else { "user" };
        Self { role: Some(role), parts: [Text { text: &message.content }] }
    }
}

/// The body of a call for text.
pub(super) fn body<'a>(ask: &'a Ask<'a>) -> Body<'a> {
    let (system, messages) = ask.split();
    Body {
        system_instruction: Content { role: None, parts: [Text { text: system }] },
        contents: messages.iter().map(Content::from).collect(),
        generation_config: GenerationConfig {
            max_output_tokens: ask.max_output_tokens,
            temperature: ask.temperature,
            thinking_config: Thinking::least(ask.model),
        },
    }
}

#[derive(Default)]
pub(in crate::providers) struct ContentEvents;

impl Events for ContentEvents {
    fn hear(&mut self, data: &[u8], said: &mut Said) {
        let chunk: Chunk<'_> = match serde_json::from_slice(data) {
            Ok(chunk) => chunk,
            Err(error) => return said.garbled("unreadable event", &error),
        };
        if let Some(error) = chunk.error {
            return said.failed(&serde_json::from_str(error.get()).unwrap_or_default());
        }
        if let Some(candidate) = chunk.candidates.first() {
            for part in candidate.content.iter().flat_map(|content| &content.parts) {
                if !part.thought {
                    said.text(part.text.as_deref().unwrap_or_default());
                }
            }
            if let Some(reason) = &candidate.finish_reason {
                said.finish(Finish::of(reason));
            }
        }
        // The prompt itself was refused: there is no candidate.
        if chunk.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some()) {
            said.finish(Finish::Filter);
        }
        if let Some(counts) = chunk.usage_metadata
            && let Ok(counts) = serde_json::from_str::<Counts>(counts.get())
        {
            said.tokens(counts.into());
        }
    }

    fn is_whole(&self, said: &Said) -> bool {
        said.is_finished()
    }
}

/// One `data:` of the stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    candidates: Vec<Candidate<'a>>,
    #[serde(borrow, default)]
    prompt_feedback: Option<Feedback<'a>>,
    /// No usage is worth a text.
    #[serde(borrow, default)]
    usage_metadata: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow, default)]
    content: Option<Parts<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<Word<'a>>,
}

#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow, default)]
    parts: Vec<Part<'a>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Word<'a>>,
    #[serde(default)]
    thought: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback<'a> {
    #[serde(borrow, default)]
    block_reason: Option<Word<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    prompt_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
}

impl From<Counts> for Tokens {
    fn from(counts: Counts) -> Self {
        let output = counts.candidates_token_count;
        Tokens {
            input: counts.prompt_token_count,
            cached: counts.cached_content_token_count,
            // Thoughts are billed as output.
            output: output.map(|text| text + counts.thoughts_token_count.unwrap_or(0)),
        }
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
            model: "gemini-3.5-flash-lite",
            messages: &messages,
            prefilled: true,
            max_output_tokens: 9,
            schema: None,
            temperature: None,
        };
        insta::assert_json_snapshot!(body(&ask), @r#"
        {
          "systemInstruction": {
            "parts": [
              {
                "text": "Rules."
              }
            ]
          },
          "contents": [
            {
              "role": "user",
              "parts": [
                {
                  "text": "Task."
                }
              ]
            },
            {
              "role": "model",
              "parts": [
                {
                  "text": "The wall"
                }
              ]
            }
          ],
          "generationConfig": {
            "maxOutputTokens": 9,
            "thinkingConfig": {
              "thinkingLevel": "low"
            }
          }
        }
        "#);
        for (model, thinking) in [
            ("models/gemini-2.5-flash-lite", serde_json::json!({"thinkingBudget": 0})),
            ("gemini-2.5-pro", serde_json::Value::Null),
        ] {
            let body = serde_json::to_value(body(&Ask { model, ..ask })).expect("JSON");
            assert_eq!(body["generationConfig"]["thinkingConfig"], thinking, "{model}");
        }
    }
}
