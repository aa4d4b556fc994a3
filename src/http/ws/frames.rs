//! The socket's frames: what clients send, what the server sends beside the log's events, and why sockets close.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Code, ServiceError};
use crate::http::turns::TurnBody;

/// Largest frame that is read.
pub const MAX_FRAME_BYTES: usize = 64 * 1024;
/// Longest client `id` and `idem`.
const MAX_ID_CHARS: usize = 128;

/// Why the server closes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    GoingAway,
    ServerError,
    TokenExpired,
    SlowConsumer,
    NoPong,
    TooManyRequests,
    Unauthorized,
    BadFrame,
    HelloTimeout,
    ProtocolUnsupported,
    ConnectionLimit,
    Banned,
}

impl Close {
    /// Below 4500: reconnect. From 4500 on: do not.
    pub const fn code(self) -> u16 {
        match self {
            Close::GoingAway => 4000,
            Close::ServerError => 4001,
            Close::TokenExpired => 4002,
            Close::SlowConsumer => 4003,
            Close::NoPong => 4004,
            Close::TooManyRequests => 4005,
            Close::Unauthorized => 4500,
            Close::BadFrame => 4501,
            Close::HelloTimeout => 4502,
            Close::ProtocolUnsupported => 4503,
            Close::ConnectionLimit => 4504,
            Close::Banned => 4505,
        }
    }

    /// For a token that is not taken.
    pub fn of_token(error: &ServiceError) -> Self {
        match error.code {
            Code::ExpiredToken => Close::TokenExpired,
            Code::InsufficientPermissions => Close::Banned,
            _ => Close::Unauthorized,
        }
    }

    pub const fn reason(self) -> &'static str {
        match self {
            Close::GoingAway => "going_away",
            Close::ServerError => "server_error",
            Close::TokenExpired => "token_expired",
            Close::SlowConsumer => "slow_consumer",
            Close::NoPong => "no_pong",
            Close::TooManyRequests => "too_many_requests",
            Close::Unauthorized => "unauthorized",
            Close::BadFrame => "bad_frame",
            Close::HelloTimeout => "hello_timeout",
            Close::ProtocolUnsupported => "protocol_unsupported",
            Close::ConnectionLimit => "connection_limit",
            Close::Banned => "banned",
        }
    }
}

/// A client's frame.
#[derive(Debug)]
pub struct ClientFrame {
    pub id: String,
    pub ask: Ask,
}

#[derive(Debug)]
pub enum Ask {
    Hello {
        token: Option<String>,
    },
    Attach {
        scenario: String,
        epoch: Option<String>,
        after: u64,
    },
    Detach {
        scenario: String,
    },
    Turn {
        scenario: String,
        body: TurnBody,
        idem: Option<String>,
    },
    Stop {
        scenario: String,
        turn: String,
    },
    Refresh {
        token: String,
    },
    Ping,
    /// Understood as a frame, but not as something that can be asked.
    Invalid(ServiceError),
}

#[derive(Deserialize)]
struct Head {
    id: String,
    r#type: String,
}

#[derive(Deserialize)]
struct Hello {
    token: Option<String>,
}

#[derive(Deserialize)]
struct Attach {
    scenario: String,
    epoch: Option<String>,
    #[serde(default)]
    after: u64,
}

#[derive(Deserialize)]
struct Detach {
    scenario: String,
}

#[derive(Deserialize)]
struct Turn {
    scenario: String,
    scene: String,
    choice: Option<String>,
    text: Option<String>,
    idem: Option<String>,
}

#[derive(Deserialize)]
struct Stop {
    scenario: String,
    turn: String,
}

#[derive(Deserialize)]
struct Refresh {
    token: String,
}

/// Reads a frame; `None` if it is none at all (no JSON object with a string `type` and `id`).
pub fn parse(text: &str) -> Option<ClientFrame> {
    let Head { id, r#type } = serde_json::from_str(text).ok()?;
    if id.chars().count() > MAX_ID_CHARS {
        return None;
    }
    let ask = ask(&r#type, text).unwrap_or_else(Ask::Invalid);
    Some(ClientFrame { id, ask })
}

fn ask(kind: &str, text: &str) -> Result<Ask, ServiceError> {
    Ok(match kind {
        "hello" => Ask::Hello { token: read::<Hello>(text)?.token },
        "attach" => {
            let Attach { scenario, epoch, after } = read(text)?;
            Ask::Attach { scenario, epoch, after }
        }
        "detach" => Ask::Detach { scenario: read::<Detach>(text)?.scenario },
        "choose" | "say" | "retry" | "edit" | "jump" => turn(kind, read(text)?)?,
        "stop" => {
            let Stop { scenario, turn } = read(text)?;
            Ask::Stop { scenario, turn }
        }
        "refresh" => Ask::Refresh { token: read::<Refresh>(text)?.token },
        "ping" => Ask::Ping,
        _ => return Err(ServiceError::invalid_field("type", "is not a frame of this protocol")),
    })
}

fn turn(kind: &str, turn: Turn) -> Result<Ask, ServiceError> {
    let missing = |field: &str| ServiceError::invalid_field(field, "is missing");
    let Turn { scenario, scene, choice, text, idem } = turn;
    if let Some(idem) = &idem
        && (idem.is_empty() || idem.chars().count() > MAX_ID_CHARS)
    {
        return Err(ServiceError::invalid_field("idem", "must have 1 to 128 characters"));
    }
    let body = match kind {
        "choose" => TurnBody::Choose { scene, choice: choice.ok_or_else(|| missing("choice"))? },
        "say" => TurnBody::Say { scene, text: text.ok_or_else(|| missing("text"))? },
        "edit" => TurnBody::Edit { scene, text: text.ok_or_else(|| missing("text"))? },
        "retry" => TurnBody::Retry { scene },
        _ => TurnBody::Jump { scene },
    };
    Ok(Ask::Turn { scenario, body, idem })
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ServiceError> {
    serde_json::from_str(text).map_err(|error| {
        ServiceError::new(Code::InvalidRequest, format!("the frame is not complete: {error}"))
    })
}

/// What the server sends beside the log's events.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    Welcome {
        id: &'a str,
        conn: &'a str,
        ping_s: u64,
        max_frame: usize,
    },
    Ack {
        id: &'a str,
        result: Value,
    },
    Error {
        id: &'a str,
        error: &'a str,
        message: &'a str,
        retryable: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<Value>,
    },
    Gap {
        scenario: &'a str,
        from: u64,
        to: u64,
    },
    Pong {
        id: &'a str,
    },
    GoingAway {
        after_ms: u64,
    },
}

impl ServerFrame<'_> {
    pub fn encode(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The one answer to a frame that was refused.
pub fn error(id: &str, error: &ServiceError) -> String {
    let details = error.details.iter().map(|d| json!({"field": d.field, "message": d.message}));
    let details: Vec<Value> = details.collect();
    ServerFrame::Error {
        id,
        error: error.code.as_str(),
        message: &error.message,
        retryable: error.code.retryable(),
        details: (!details.is_empty()).then(|| details.into()),
    }
    .encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_frame_is_told_from_what_cannot_be_asked() {
        for garbage in ["", "x", "[]", "{}", r#"{"type":"ping"}"#, r#"{"type":"ping","id":1}"#] {
            assert!(parse(garbage).is_none(), "{garbage}");
        }
        for (text, expected) in [
            (r#"{"type":"dance","id":"1"}"#, "type"),
            (r#"{"type":"choose","id":"1","scenario":"s","scene":"n1"}"#, "choice"),
            (r#"{"type":"choose","id":"1","scenario":"s"}"#, "scene"),
            (r#"{"type":"attach","id":"1","scenario":"s","after":-1}"#, "after"),
        ] {
            match parse(text).unwrap().ask {
                Ask::Invalid(error) => {
                    let found = error.message.contains(expected) || text.contains(expected);
                    assert!(found, "{text}: {error}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn reconnecting_is_told_by_the_code() {
        for close in [Close::GoingAway, Close::TooManyRequests, Close::Unauthorized, Close::Banned]
        {
            let again = matches!(close, Close::GoingAway | Close::TooManyRequests);
            assert_eq!(close.code() < 4500, again, "{}", close.reason());
        }
    }
}
