//! The shapes of the files that the packs of a language share.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Band;
use crate::storyteller::template::Template;

/// `common.toml`: passages that any pack uses.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// By operator: the sentences that follow the premise.
    pub hinge: BTreeMap<String, Vec<Template>>,
    /// By operator: what hangs on it, said in the middle of the story.
    #[serde(default)]
    pub stakes: BTreeMap<String, Vec<Template>>,
    /// How a prompt without a statement in it enters the world.
    pub quoted: Vec<Template>,
    /// Sights and sounds of any place.
    pub details: Vec<Template>,
    /// The reader's decision was carried out once more.
    pub again: Vec<Template>,
    /// The story takes another course because of the reader's words.
    #[serde(default)]
    pub turned: Vec<Template>,
    /// What the reader said comes back some turns later.
    #[serde(default)]
    pub kept: Vec<Template>,
    /// Somebody or something named in the reader's words reacts: by role that every pack has; `other` for any other
    /// role, `actor` and `place`.
    pub target: BTreeMap<String, Vec<Template>>,
    pub harsh: Vec<Template>,
    pub gentle: Vec<Template>,
    /// Goes on after a sentence that another hand left unfinished.
    pub broken: Vec<Template>,
    pub intent: Vec<Intent>,
}

/// `voices.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoiceFile {
    pub voice: Vec<Voice>,
}

/// A colouring by genre or tone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voice {
    pub id: String,
    pub kind: Taste,
    pub keywords: Vec<String>,
    pub lines: Vec<Template>,
}

/// What of a reader's taste a voice answers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taste {
    Tone,
    Genre,
}

/// What free text asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    pub id: String,
    /// The intent whose effects serve a pack that has none of this one.
    pub like: Option<String>,
    pub words: Vec<String>,
    pub then: Vec<Template>,
    /// As a choice after somebody else's text.
    pub label: Vec<Template>,
    pub hint: Template,
}

/// `topics.toml`: what a prompt may be about.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicFile {
    #[serde(default)]
    pub topic: Vec<Topic>,
    #[serde(default)]
    pub class: Vec<Class>,
}

/// Somebody or something that prompts often name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub id: String,
    /// An entry of several words wants them side by side.
    pub words: Vec<String>,
    /// The age it belongs to.
    pub band: Option<Band>,
    pub lines: Vec<Template>,
    /// Told first when it vanished.
    #[serde(default)]
    pub gone: Vec<Template>,
}

/// A kind of thing that prompts are about: animals, food, sleep.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub id: String,
    /// None for the class of whatever no other knows.
    pub words: Vec<String>,
    pub lines: Vec<Template>,
}

/// `periods.toml`: what one sees and hears in a stretch of years.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodFile {
    #[serde(default)]
    pub period: Vec<Period>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    pub id: String,
    /// First and last year; negative before the common era.
    pub from: i32,
    pub to: i32,
    pub lines: Vec<Template>,
}

/// `names.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameFile {
    pub pool: Vec<Pool>,
}

/// Names of one part of the world.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub keywords: Vec<String>,
    pub women: Vec<String>,
    pub men: Vec<String>,
    pub families: Vec<String>,
}
