//! A scenario: the durable tree of scenes that grew from one "what if" prompt.

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ids::{ScenarioId, SceneId, TurnId, UserId};
use super::patch::Object;

/// Longest prompt, in Unicode characters.
pub const MAX_PROMPT_CHARS: usize = 2_000;
/// Longest free text of a reader (`say`), in Unicode characters.
pub const MAX_SAY_CHARS: usize = 2_000;
/// Longest text of an edited scene, in Unicode characters.
pub const MAX_EDIT_CHARS: usize = 20_000;
/// Most scenes in one scenario.
pub const MAX_SCENES: u32 = 10_000;
/// Largest seed: the largest integer every JSON reader represents exactly.
pub const MAX_SEED: u64 = (1 << 53) - 1;

/// How long a scene is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    Short,
    #[default]
    Medium,
    Long,
}

/// The record of a scenario; its scenes are kept beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    pub id: ScenarioId,
    pub owner: UserId,
    pub title: String,
    pub prompt: String,
    pub genre: Option<String>,
    pub tone: Option<String>,
    pub length: Length,
    /// BCP 47 tag, e.g. `en`.
    pub language: String,
    /// Preferred text provider; `None` leaves the choice to the configured order.
    pub provider: Option<String>,
    pub model: Option<String>,
    pub seed: u64,
    pub tags: Vec<String>,
    pub favorite: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub scene_count: u32,
    pub current_scene: Option<SceneId>,
}

/// A change by its owner; `None` leaves the field as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScenarioChange {
    pub title: Option<String>,
    pub tags: Option<Vec<String>>,
    pub favorite: Option<bool>,
}

/// What led from a scene's parent to the scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Via {
    /// The scenario's prompt: the first scene.
    Prompt,
    Choose {
        choice: String,
        text: String,
    },
    Say {
        text: String,
    },
    /// Another telling of a scene; `of` is the scene told anew, `choice` and `text` what had led to that one.
    Retry {
        of: SceneId,
        #[serde(skip_serializing_if = "Option::is_none")]
        choice: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// A scene rewritten by the reader.
    Edit {
        of: SceneId,
    },
    /// Only in the log: the reader went back (or over) to a scene that exists.
    Jump,
}

impl Via {
    /// The reader's words that the story has to answer, if any: a choice's label or free text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Via::Choose { text, .. } | Via::Say { text } => Some(text),
            Via::Retry { text, .. } => text.as_deref(),
            Via::Prompt | Via::Edit { .. } | Via::Jump => None,
        }
    }
}

/// One offered way on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// `c1` … `c4`.
    pub id: String,
    pub label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
    }
}

/// Why a scene's text ended where it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Complete,
    /// The reader stopped it.
    Stopped,
    /// The provider's length limit.
    Length,
    /// The turn failed with text already shown.
    Failed,
}

impl Finish {
    pub const fn as_str(self) -> &'static str {
        match self {
            Finish::Complete => "complete",
            Finish::Stopped => "stopped",
            Finish::Length => "length",
            Finish::Failed => "failed",
        }
    }
}

/// A provider and model that wrote a scene, or its part from `off` (UTF-16 code units) on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    pub provider: String,
    pub model: String,
    pub off: usize,
}

/// One immutable node of the tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    pub scenario: ScenarioId,
    pub id: SceneId,
    pub parent: Option<SceneId>,
    pub via: Via,
    pub text: String,
    /// 0 to 4.
    pub choices: Vec<Choice>,
    /// The world state after this scene.
    pub state: Object,
    /// Whoever wrote it, in order; never empty.
    pub authors: Vec<Author>,
    pub usage: Usage,
    pub finish: Finish,
    /// Lower-case hex SHA-256 of `text` in UTF-8.
    pub hash: String,
    pub turn: TurnId,
    pub created_at: Timestamp,
}

/// Lower-case hex SHA-256 of a scene's text in UTF-8.
pub fn content_hash(text: &str) -> String {
    use std::fmt::Write;
    digest::digest(&digest::SHA256, text.as_bytes()).as_ref().iter().fold(
        String::with_capacity(64),
        |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        },
    )
}

/// Length in UTF-16 code units, the unit of every `off` and `len` on the wire.
pub fn utf16_len(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// A title for a scenario that was not given one: the prompt, trimmed to `max` characters at a word.
pub fn title_from_prompt(prompt: &str, max: usize) -> String {
    let line = prompt.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= max {
        return line;
    }
    let cut: String = line.chars().take(max - 1).collect();
    let cut = cut.rsplit_once(' ').map_or(cut.as_str(), |(head, _)| head);
    format!("{}…", cut.trim_end_matches(|c: char| !c.is_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_plain_sha_256_so_that_any_client_can_check_it() {
        assert_eq!(
            content_hash("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn lengths_count_as_javascript_counts() {
        assert_eq!(utf16_len("a𝄞é"), 4);
    }

    #[test]
    fn a_long_prompt_is_cut_at_a_word() {
        assert_eq!(
            title_from_prompt("What if   Rome\nnever fell?", 40),
            "What if Rome never fell?"
        );
        assert_eq!(
            title_from_prompt("What if Rome never fell, and then", 24),
            "What if Rome never…"
        );
    }
}
