//! What a reader can ask of a session.

use serde::{Deserialize, Serialize};

use super::ids::{SceneId, TurnId};

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

/// A command with the key that makes its repetition harmless.
#[derive(Debug, Clone)]
pub struct Request {
    pub command: Command,
    /// The client's idempotency key: a repeat within 24 h gets the first answer.
    pub key: Option<String>,
    /// The turn's id if the command is accepted.
    pub turn: TurnId,
}
