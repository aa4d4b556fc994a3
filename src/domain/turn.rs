//! What a reader can ask of a session.

use serde::{Deserialize, Serialize};

use super::ids::{SceneId, TurnId};
use super::scenario::{MAX_EDIT_CHARS, MAX_SAY_CHARS};

/// A reader's command that starts a turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Command {
    /// The first turn of a new scenario. Never accepted from the wire.
    Begin,
    Choose {
        scene: SceneId,
        choice: String,
    },
    Say {
        scene: SceneId,
        text: String,
    },
    Retry {
        scene: SceneId,
    },
    Edit {
        scene: SceneId,
        text: String,
    },
    Jump {
        scene: SceneId,
    },
}

impl Command {
    /// The reader's own words, if there are any.
    pub fn text(&self) -> Option<&str> {
        match self {
            Command::Say { text, .. } | Command::Edit { text, .. } => Some(text.trim()),
            Command::Begin
            | Command::Choose { .. }
            | Command::Retry { .. }
            | Command::Jump { .. } => None,
        }
    }

    /// # Errors
    /// What is wrong with the reader's text.
    pub fn check(&self) -> Result<(), String> {
        let (text, max) = match self {
            Command::Say { text, .. } => (text, MAX_SAY_CHARS),
            Command::Edit { text, .. } => (text, MAX_EDIT_CHARS),
            _ => return Ok(()),
        };
        let chars = text.trim().chars().count();
        if chars == 0 || chars > max {
            return Err(format!("must have 1 to {max} characters"));
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err("must not have control characters".into());
        }
        Ok(())
    }
}

/// A command with the key that makes its repetition harmless.
#[derive(Debug, Clone)]
pub struct Request {
    pub command: Command,
    /// The client's idempotency key: a repeat within 24 h gets the first answer.
    pub key: Option<String>,
    /// The turn's id if the command is accepted, unless its first call was made under another one before it came.
    pub turn: TurnId,
}
