//! How each vendor says what all of them say: the bytes of an answer.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use serde_json::{Value, json};
use whatif::config::Kind;

use crate::support::raw_http::Step;

/// Why an answer stops, and what it cost: 7 and 2.
#[derive(Debug, Clone, Copy)]
pub enum Reason {
    Stop,
    Length,
    Filter,
    Tools,
}

pub fn text(kind: Kind, text: &str) -> Vec<u8> {
    match kind {
        Kind::OpenAi => sse(&json!({"choices": [{"index": 0, "delta": {"content": text}}]})),
        Kind::Anthropic => named(&json!({
            "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text},
        })),
        Kind::Gemini => sse(&json!({
            "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}],
        })),
        Kind::Bedrock => {
            event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": text}}))
        }
        Kind::Ollama => line(&json!({
            "model": "m", "message": {"role": "assistant", "content": text}, "done": false,
        })),
    }
}

/// What comes before the first text.
pub fn start(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::OpenAi => sse(&json!({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})),
        Kind::Anthropic => {
            let usage =
                json!({"input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": 1});
            let start =
                json!({"type": "message_start", "message": {"role": "assistant", "usage": usage}});
            let block = json!({"type": "text", "text": ""});
            let block = json!({"type": "content_block_start", "index": 0, "content_block": block});
            [named(&start), named(&block), named(&json!({"type": "ping"}))].concat()
        }
        Kind::Gemini => sse(&json!({"usageMetadata": {"promptTokenCount": 7}})),
        Kind::Bedrock => event("messageStart", &json!({"role": "assistant"})),
        Kind::Ollama => {
            line(&json!({"model": "m", "message": {"role": "assistant", "content": ""}}))
        }
    }
}

/// Thoughts and the call of a tool: nothing for a reader.
pub fn aside(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::OpenAi => [
            sse(&json!({"choices": [{"delta": {"reasoning_content": "hm"}}]})),
            sse(&json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]})),
        ]
        .concat(),
        Kind::Anthropic => {
            let delta = |delta: Value| named(&json!({"type": "content_block_delta", "index": 1, "delta": delta}));
            let tool = json!({"type": "tool_use", "id": "t", "name": "f", "input": {}});
            [
                delta(json!({"type": "thinking_delta", "thinking": "hm"})),
                delta(json!({"type": "signature_delta", "signature": "s"})),
                named(&json!({"type": "content_block_start", "index": 1, "content_block": tool})),
                delta(json!({"type": "input_json_delta", "partial_json": "{}"})),
                named(&json!({"type": "content_block_stop", "index": 1})),
                named(&json!({"type": "yet_to_come", "delta": null})),
            ]
            .concat()
        }
        Kind::Gemini => sse(&json!({"candidates": [{"content": {"parts": [
            {"text": "hm", "thought": true}, {"functionCall": {"name": "f", "args": {}}},
        ]}}]})),
        Kind::Bedrock => {
            let delta = |delta: Value| {
                event("contentBlockDelta", &json!({"contentBlockIndex": 1, "delta": delta}))
            };
            let start = json!({"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}});
            [
                delta(json!({"reasoningContent": {"text": "hm"}})),
                event("contentBlockStart", &start),
                delta(json!({"toolUse": {"input": "{}"}})),
                event("contentBlockStop", &json!({"contentBlockIndex": 1})),
            ]
            .concat()
        }
        Kind::Ollama => line(&json!({"message": {
            "role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"function": {"name": "f"}}],
        }, "done": false})),
    }
}

pub fn end(kind: Kind, reason: Reason) -> Vec<u8> {
    let pick = |[stop, length, filter, tools]: [&'static str; 4]| match reason {
        Reason::Stop => stop,
        Reason::Length => length,
        Reason::Filter => filter,
        Reason::Tools => tools,
    };
    match kind {
        Kind::OpenAi => {
            let reason = pick(["stop", "length", "content_filter", "tool_calls"]);
            let usage = json!({"prompt_tokens": 7, "completion_tokens": 2});
            [
                sse(&json!({"choices": [{"delta": {}, "finish_reason": reason}]})),
                sse(&json!({"choices": [], "usage": usage})),
                b"data: [DONE]\n\n".to_vec(),
            ]
            .concat()
        }
        Kind::Anthropic => {
            let reason = pick(["end_turn", "max_tokens", "refusal", "tool_use"]);
            let usage = json!({"output_tokens": 2});
            [
                named(&json!({"type": "content_block_stop", "index": 0})),
                named(&json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage})),
                named(&json!({"type": "message_stop"})),
            ]
            .concat()
        }
        Kind::Gemini => {
            let reason = pick(["STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL"]);
            let usage =
                json!({"promptTokenCount": 7, "candidatesTokenCount": 1, "thoughtsTokenCount": 1});
            sse(
                &json!({"candidates": [{"finishReason": reason, "index": 0}], "usageMetadata": usage}),
            )
        }
        Kind::Bedrock => {
            let reason = pick(["end_turn", "max_tokens", "guardrail_intervened", "tool_use"]);
            let usage = json!({"inputTokens": 4, "cacheReadInputTokens": 3, "outputTokens": 2});
            [
                event("messageStop", &json!({"stopReason": reason})),
                event("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 1}})),
            ]
            .concat()
        }
        Kind::Ollama => {
            let reason = pick(["stop", "length", "content_filter", "stop"]);
            line(&json!({
                "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason,
                "prompt_eval_count": 7, "eval_count": 2,
            }))
        }
    }
}

/// The vendor has too much to do, in the middle of an answer.
pub fn overloaded(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::OpenAi => sse(&json!({"error": {"message": "m", "type": "server_error"}})),
        Kind::Anthropic => named(&json!({
            "type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"},
        })),
        Kind::Gemini => {
            sse(&json!({"error": {"code": 503, "message": "m", "status": "UNAVAILABLE"}}))
        }
        Kind::Bedrock => exception("serviceUnavailableException"),
        Kind::Ollama => line(&json!({"error": "an error was encountered while running the model"})),
    }
}

/// The caller asks too much, in the middle of an answer.
pub fn limited(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::OpenAi => sse(&json!({"error": {"type": "rate_limit_error"}})),
        Kind::Anthropic => named(&json!({"type": "error", "error": {"type": "rate_limit_error"}})),
        Kind::Gemini => sse(&json!({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}})),
        Kind::Bedrock => exception("throttlingException"),
        Kind::Ollama => line(&json!({"error": {"code": 429, "message": "m"}})),
    }
}

/// Something in the vendor's framing that is nothing of its format.
pub fn garbage(kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Bedrock => {
            let mut message = event("contentBlockDelta", &json!({"delta": {"text": "A"}}));
            // Its checksum does not fit any more.
            let last = message.len() - 6;
            message[last] ^= 1;
            message
        }
        Kind::Ollama => b"{oops\n".to_vec(),
        _ => b"data: {oops\n\n".to_vec(),
    }
}

/// A whole answer, in pieces.
pub fn answer(kind: Kind, pieces: &[Vec<u8>]) -> Vec<Step> {
    let pieces = pieces.iter().cloned().map(Step::Chunk);
    [Step::Head, Step::Chunk(start(kind))].into_iter().chain(pieces).chain([Step::End]).collect()
}

fn sse(data: &Value) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

fn named(data: &Value) -> Vec<u8> {
    let name = data["type"].as_str().expect("every event has a type");
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

fn line(data: &Value) -> Vec<u8> {
    format!("{data}\n").into_bytes()
}

fn event(name: &'static str, payload: &Value) -> Vec<u8> {
    message("event", ":event-type", name, payload)
}

fn exception(name: &'static str) -> Vec<u8> {
    message("exception", ":exception-type", name, &json!({"message": "m"}))
}

fn message(
    kind: &'static str,
    name: &'static str,
    value: &'static str,
    payload: &Value,
) -> Vec<u8> {
    let header = |name: &'static str, value: &'static str| {
        Header::new(name, HeaderValue::String(value.into()))
    };
    let message = Message::new(payload.to_string())
        .add_header(header(":message-type", kind))
        .add_header(header(name, value))
        .add_header(header(":content-type", "application/json"));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).expect("a message");
    bytes
}
