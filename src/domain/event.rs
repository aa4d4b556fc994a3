//! The events of a scenario's log and their wire form.
//!
//! An event is encoded exactly once, by the one writer of its log, with its final `seq`; from then on only the
//! encoded [`Frame`] travels: into the store, the tail and every socket.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ids::{ScenarioId, SceneId, TurnId};
use super::patch::Object;
use super::scenario::{Choice, Finish, Usage, Via};

/// An event of the log, without its address (`scenario`, `epoch`, `seq`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    #[serde(rename = "turn.started")]
    TurnStarted {
        turn: TurnId,
        scene: SceneId,
        parent: Option<SceneId>,
        via: Via,
        provider: String,
        model: String,
    },
    #[serde(rename = "text.delta")]
    TextDelta {
        turn: TurnId,
        /// UTF-16 code units of the scene's text before this delta.
        off: usize,
        text: String,
    },
    #[serde(rename = "text.done")]
    TextDone { turn: TurnId, len: usize },
    #[serde(rename = "choice")]
    Choice { turn: TurnId, choice: Choice },
    #[serde(rename = "choices.done")]
    ChoicesDone { turn: TurnId },
    #[serde(rename = "state.patch")]
    StatePatch { turn: TurnId, patch: Object },
    #[serde(rename = "turn.failover")]
    TurnFailover { turn: TurnId, from: String, to: String, off: usize, reason: String },
    #[serde(rename = "turn.done")]
    TurnDone { turn: TurnId, scene: SceneId, finish: Finish, usage: Usage, hash: String },
    /// What was shown of the turn is to be hidden; it ends as failed and leaves no scene.
    #[serde(rename = "turn.retracted")]
    TurnRetracted { turn: TurnId, scene: SceneId, reason: String },
    #[serde(rename = "turn.failed")]
    TurnFailed { turn: TurnId, error: String, message: String, retryable: bool },
}

impl Event {
    /// The event's `type`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Event::TurnStarted { .. } => "turn.started",
            Event::TextDelta { .. } => "text.delta",
            Event::TextDone { .. } => "text.done",
            Event::Choice { .. } => "choice",
            Event::ChoicesDone { .. } => "choices.done",
            Event::StatePatch { .. } => "state.patch",
            Event::TurnFailover { .. } => "turn.failover",
            Event::TurnDone { .. } => "turn.done",
            Event::TurnRetracted { .. } => "turn.retracted",
            Event::TurnFailed { .. } => "turn.failed",
        }
    }

    /// Whether a turn begins or ends with it.
    pub const fn bounds_turn(&self) -> bool {
        matches!(
            self,
            Event::TurnStarted { .. } | Event::TurnDone { .. } | Event::TurnFailed { .. }
        )
    }
}

/// An encoded event: one JSON object in UTF-8, shared by everyone who sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

/// What a frame says, decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Addressed {
    pub scenario: ScenarioId,
    pub epoch: String,
    pub seq: u64,
    /// The first of several merged events; absent means `seq`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq_from: Option<u64>,
    #[serde(flatten)]
    pub event: Event,
}

#[derive(Serialize)]
struct Encoded<'a> {
    #[serde(flatten)]
    event: &'a Event,
    scenario: ScenarioId,
    epoch: &'a str,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq_from: Option<u64>,
}

/// `text.delta` is nearly all of a log; its own struct spares it serde's buffering for `flatten`.
#[derive(Serialize)]
struct EncodedDelta<'a> {
    r#type: &'static str,
    scenario: ScenarioId,
    epoch: &'a str,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq_from: Option<u64>,
    turn: TurnId,
    off: usize,
    text: &'a str,
}

impl Frame {
    /// Encodes `event` at its final place in the log.
    pub fn encode(scenario: ScenarioId, epoch: &str, seq: u64, event: &Event) -> Frame {
        Self::encode_merged(scenario, epoch, seq, None, event)
    }

    /// As [`Frame::encode`], for an event that stands for all from `seq_from` to `seq`.
    pub fn encode_merged(
        scenario: ScenarioId,
        epoch: &str,
        seq: u64,
        seq_from: Option<u64>,
        event: &Event,
    ) -> Frame {
        let json = match event {
            Event::TextDelta { turn, off, text } => {
                let mut json = Vec::with_capacity(text.len() + 208);
                let delta = EncodedDelta {
                    r#type: "text.delta",
                    scenario,
                    epoch,
                    seq,
                    seq_from,
                    turn: *turn,
                    off: *off,
                    text,
                };
                serde_json::to_writer(&mut json, &delta).map(|()| json)
            }
            _ => serde_json::to_vec(&Encoded { event, scenario, epoch, seq, seq_from }),
        };
        Frame(Bytes::from(json.expect("events have string keys and finite numbers only")))
    }

    /// Takes bytes that a store kept.
    ///
    /// # Errors
    /// If they are not UTF-8; their JSON is not looked at.
    pub fn from_stored(bytes: Bytes) -> Result<Frame, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Frame(bytes))
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The event's `type`, read without decoding: it is every frame's first key.
    pub fn kind(&self) -> &str {
        self.as_str()
            .strip_prefix(r#"{"type":""#)
            .and_then(|rest| rest.split_once('"'))
            .map_or("message", |(kind, _)| kind)
    }

    /// # Errors
    /// If the bytes are not an event.
    pub fn decode(&self) -> serde_json::Result<Addressed> {
        serde_json::from_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_encoders_agree_with_the_decoder() {
        let scenario: ScenarioId = "0190b5a0-0000-7000-8000-000000000001".parse().unwrap();
        let turn: TurnId = "0190b5a0-0000-7000-8000-000000000002".parse().unwrap();
        let delta = Event::TextDelta { turn, off: 3, text: "say \"hi\"\n𝄞".into() };
        let frame = Frame::encode(scenario, "e1", 9, &delta);
        assert!(
            frame.as_str().starts_with(r#"{"type":"text.delta","scenario":"#),
            "{}",
            frame.as_str()
        );
        assert_eq!(frame.decode().unwrap().event, delta);

        let done = Event::TextDone { turn, len: 4 };
        assert_eq!(frame.kind(), delta.kind());
        assert_eq!(
            Frame::encode(scenario, "e1", 1, &Event::ChoicesDone { turn }).kind(),
            "choices.done"
        );
        let decoded = Frame::encode_merged(scenario, "e1", 12, Some(10), &done).decode().unwrap();
        assert_eq!((decoded.seq_from, decoded.seq, decoded.event), (Some(10), 12, done));
    }
}
