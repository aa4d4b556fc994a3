//! The frames of PROTOCOL.md as a client reads them.
//!
//! Lenient on purpose: unknown fields, events and kinds are accepted, so that an older client goes on playing
//! against a newer server. Nothing here is shared with the server's own encoders; the contract is what ties them.

use serde::Deserialize;
use serde_json::Value;

/// What came out of the socket.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    Welcome {
        ping_s: u64,
    },
    Ack {
        id: String,
        result: Value,
    },
    Error(Refusal),
    Snapshot(Snapshot),
    Gap {
        scenario: String,
        to: u64,
    },
    GoingAway {
        after_ms: u64,
    },
    Log(LogFrame),
    /// `pong`, or something this client does not know.
    Other,
}

/// An `error` frame.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Refusal {
    pub id: Option<String>,
    #[serde(rename = "error")]
    pub code: String,
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub retryable: bool,
}

/// The answer to `attach`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Attached {
    pub epoch: String,
    pub head: u64,
    #[serde(default)]
    pub recovered: bool,
}

/// One event of the log with its address.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LogFrame {
    pub scenario: String,
    pub epoch: String,
    pub seq: u64,
    /// The first of several merged events; absent means `seq`.
    pub seq_from: Option<u64>,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    #[serde(rename = "turn.started")]
    TurnStarted {
        turn: String,
        scene: String,
        parent: Option<String>,
        #[serde(default)]
        via: Via,
    },
    #[serde(rename = "text.delta")]
    TextDelta { turn: String, off: usize, text: String },
    #[serde(rename = "text.done")]
    TextDone { turn: String },
    #[serde(rename = "choice")]
    Choice { turn: String, choice: Choice },
    #[serde(rename = "choices.done")]
    ChoicesDone { turn: String },
    #[serde(rename = "turn.failover")]
    TurnFailover {
        turn: String,
        #[serde(default)]
        from: String,
        #[serde(default)]
        to: String,
    },
    #[serde(rename = "turn.done")]
    TurnDone {
        turn: String,
        scene: String,
        #[serde(default)]
        finish: String,
    },
    #[serde(rename = "turn.retracted")]
    TurnRetracted { turn: String },
    #[serde(rename = "turn.failed")]
    TurnFailed {
        turn: String,
        #[serde(default)]
        message: String,
    },
    /// Says nothing to a reader (`state.patch`), or is newer than this client.
    #[serde(other)]
    Other,
}

/// What led to a scene.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Via {
    #[serde(default)]
    pub kind: String,
    pub text: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Choice {
    pub id: String,
    pub label: String,
    pub hint: Option<String>,
}

/// A finished scene, as in a snapshot and in `GET …/tree`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Scene {
    pub id: String,
    pub parent: Option<String>,
    #[serde(default)]
    pub via: Via,
    #[serde(default)]
    pub text: String,
    #[serde(default)]
    pub choices: Vec<Choice>,
    #[serde(default)]
    pub finish: String,
}

/// The turn that is running while a snapshot is taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OpenTurn {
    pub turn: String,
    pub scene: String,
    pub parent: Option<String>,
    #[serde(default)]
    pub via: Via,
    #[serde(default)]
    pub text: String,
    #[serde(default)]
    pub choices: Vec<Choice>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Snapshot {
    pub scenario: String,
    pub epoch: String,
    pub seq: u64,
    pub scenes: Vec<Scene>,
    pub open_turn: Option<OpenTurn>,
}

/// Reads one text frame.
///
/// # Errors
/// If it is not JSON, or is of a known type and misses what that type must have.
pub fn decode(text: &str) -> serde_json::Result<Incoming> {
    #[derive(Deserialize)]
    struct Welcome {
        #[serde(default = "default_ping")]
        ping_s: u64,
    }
    #[derive(Deserialize)]
    struct Ack {
        id: String,
        #[serde(default)]
        result: Value,
    }
    #[derive(Deserialize)]
    struct Gap {
        scenario: String,
        to: u64,
    }
    const fn default_ping() -> u64 {
        25
    }

    let value: Value = serde_json::from_str(text)?;
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
    Ok(match kind {
        "welcome" => Incoming::Welcome { ping_s: serde_json::from_value::<Welcome>(value)?.ping_s },
        "ack" => {
            let Ack { id, result } = serde_json::from_value(value)?;
            Incoming::Ack { id, result }
        }
        "error" => Incoming::Error(serde_json::from_value(value)?),
        "snapshot" => Incoming::Snapshot(serde_json::from_value(value)?),
        "gap" => {
            let Gap { scenario, to } = serde_json::from_value(value)?;
            Incoming::Gap { scenario, to }
        }
        "going_away" => {
            let after_ms = value.get("after_ms").and_then(Value::as_u64).unwrap_or_default();
            Incoming::GoingAway { after_ms }
        }
        _ if value.get("seq").is_some() => Incoming::Log(serde_json::from_value(value)?),
        _ => Incoming::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain;

    #[test]
    fn the_events_of_the_contract_are_read_as_the_domain_writes_them() {
        let scenario: domain::ids::ScenarioId =
            "0190b5a0-0000-7000-8000-000000000001".parse().unwrap();
        let turn = domain::ids::TurnId(scenario.0);
        let event = domain::event::Event::TextDelta { turn, off: 3, text: "say \"hi\"".into() };
        let frame = domain::event::Frame::encode_merged(scenario, "e1", 9, Some(7), &event);
        let Incoming::Log(read) = decode(frame.as_str()).unwrap() else { panic!("{frame:?}") };
        assert_eq!((read.seq_from, read.seq, read.epoch.as_str()), (Some(7), 9, "e1"));
        let turn = turn.to_string();
        assert_eq!(read.event, Event::TextDelta { turn, off: 3, text: "say \"hi\"".into() });
    }

    #[test]
    fn a_newer_server_does_not_break_an_older_client() {
        let newer = r#"{"type":"picture","scenario":"S","epoch":"e","seq":4,"url":"…"}"#;
        let Incoming::Log(frame) = decode(newer).unwrap() else { panic!("not a log frame") };
        assert_eq!((frame.seq, frame.event), (4, Event::Other));
        assert_eq!(decode(r#"{"type":"weather"}"#).unwrap(), Incoming::Other);
        assert!(decode("never").is_err());
        assert!(decode(r#"{"type":"text.delta","seq":1}"#).is_err());
    }
}
