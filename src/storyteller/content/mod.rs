//! What stories are made of, as it stands in `assets/storyteller/`: the shapes of its files. `load` reads them,
//! `resolve` joins the files of a pack, `walk` visits every passage; `lint` says what a pack must have.

mod load;
mod matching;
mod resolve;
mod shared;
pub mod walk;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::load::{Content, content};
pub(super) use self::load::{Files, PACK_FILES, SHARED_FILES, Sources, compiled_in};
pub use self::matching::{hits, phrase_hits, same_word};
pub use self::resolve::Lexicon;
pub use self::shared::{
    Class, Common, Intent, NameFile, Period, PeriodFile, Pool, Taste, Topic, TopicFile, Voice,
    VoiceFile,
};

use super::prompt::{Operator, Prompt};
use super::template::Template;

/// Changes of pressures, in points.
pub type Effects = BTreeMap<String, i16>;

/// The three ages a story may play in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Before 1800.
    #[default]
    Old,
    /// 1800 to 1945.
    Industrial,
    /// After 1945, the future included.
    Modern,
}

impl Band {
    pub const ALL: [Band; 3] = [Band::Old, Band::Industrial, Band::Modern];

    pub const fn of(year: i32) -> Self {
        match year {
            ..1800 => Band::Old,
            1800..=1945 => Band::Industrial,
            _ => Band::Modern,
        }
    }
}

/// `pack.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackFile {
    pub id: String,
    /// Words of a prompt that speak for this pack.
    pub keywords: Vec<String>,
    /// The age of a prompt without a date.
    #[serde(default)]
    pub era: Band,
    /// Sights and sounds, a sentence or two each.
    pub details: Vec<Template>,
    #[serde(default)]
    pub details_old: Vec<Template>,
    #[serde(default)]
    pub details_industrial: Vec<Template>,
    #[serde(default)]
    pub details_modern: Vec<Template>,
    /// What harsh or gentle words of the reader do.
    pub harsh: Effects,
    pub gentle: Effects,
    pub pressure: Vec<Pressure>,
    #[serde(default)]
    pub cause: Vec<Cause>,
    /// Word lists; a story keeps to one word of each. `when` stands in for a prompt without an era.
    pub words: WordLists,
    #[serde(default)]
    pub words_old: WordLists,
    #[serde(default)]
    pub words_industrial: WordLists,
    #[serde(default)]
    pub words_modern: WordLists,
    /// What an intent of free text does here.
    pub intents: BTreeMap<String, Effects>,
    pub opening: Storylet,
    /// Ways on after an ending.
    pub sequel: Vec<Offer>,
}

pub type WordLists = BTreeMap<String, Vec<String>>;

/// `cast.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CastFile {
    /// Of every part that has none of its own.
    #[serde(default)]
    pub address: Address,
    pub role: Vec<Part>,
}

/// `early.toml`, `middle.toml`, `late.toml`, `papers.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoryFile {
    pub storylet: Vec<Storylet>,
}

/// `endings.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndingFile {
    pub ending: Vec<Ending>,
}

/// One domain: a world of pressures, parts to cast, and everything that can happen there.
#[derive(Debug)]
pub struct Pack {
    pub id: String,
    pub era: Band,
    /// By age: the pack's own and those of the age.
    pub details: [Vec<Template>; 3],
    pub harsh: Effects,
    pub gentle: Effects,
    pub pressure: Vec<Pressure>,
    pub cause: Vec<Cause>,
    pub words: Lexicon,
    pub intents: BTreeMap<String, Effects>,
    /// The four that every pack has come first.
    pub role: Vec<Part>,
    pub opening: Storylet,
    pub storylet: Vec<Storylet>,
    pub ending: Vec<Ending>,
    pub sequel: Vec<Offer>,
}

impl Pack {
    /// What an intent does here, or the one it is like.
    pub fn effects_of(&self, intent: &Intent) -> Option<&Effects> {
        self.intents.get(&intent.id).or_else(|| self.intents.get(intent.like.as_ref()?))
    }
}

/// A state variable, 0 to 100.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pressure {
    pub key: String,
    pub start: u8,
    /// The end of the scale that hurts.
    pub bad: Scale,
    /// Where a book tends to leave it, whatever the reader prefers; endings are weighed against that.
    #[serde(skip)]
    pub rest: f32,
    pub low: Vec<Template>,
    pub high: Vec<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    Low,
    High,
}

/// One pressure moves others, and the reader sees how.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    pub when: Need,
    pub effects: Effects,
    pub text: Vec<Template>,
}

/// A part of the cast.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub key: String,
    pub titles: Vec<String>,
    pub goal: Vec<Goal>,
    pub secret: Option<Secret>,
    #[serde(default)]
    pub address: Option<Address>,
}

/// What somebody is called after the first mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    /// By the last of their names, as chronicles do.
    #[default]
    Last,
    /// By the first, as families and friends do, and as everyone does with children.
    First,
}

/// What a cast member is after, and the steps taken towards it behind the reader's back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    pub text: String,
    pub effects: Effects,
    pub moves: Vec<Template>,
}

/// What a cast member keeps from everyone, until it comes out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// One clause, for the state object.
    pub text: String,
    pub reveal: Vec<Template>,
    #[serde(default)]
    pub effects: Effects,
    #[serde(default)]
    pub set: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    #[default]
    Chronicle,
    Letter,
    Newspaper,
    Testimony,
    Minutes,
    Trial,
}

/// A situation that ends in a decision.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storylet {
    pub id: String,
    #[serde(default)]
    pub form: Form,
    /// First and last act it belongs to.
    #[serde(default = "any_act")]
    pub acts: [u8; 2],
    /// How tense it is, 0 to 100.
    #[serde(default = "middling")]
    pub heat: i16,
    /// Words that call for it when the reader uses them.
    #[serde(default)]
    pub about: Vec<String>,
    #[serde(default)]
    pub needs: Vec<Need>,
    /// The ages it is possible in; all when empty.
    #[serde(default)]
    pub eras: Vec<Band>,
    /// The year before which nobody has what it tells of. A prompt without a year is of today.
    #[serde(default)]
    pub since: Option<i32>,
    /// The turns of a prompt that it makes sense for; all when empty.
    #[serde(default)]
    pub operators: Vec<Operator>,
    #[serde(default)]
    pub effects: Effects,
    pub text: Vec<Template>,
    #[serde(default)]
    pub more: Vec<Template>,
    pub choice: Vec<Offer>,
}

const fn any_act() -> [u8; 2] {
    [1, 3]
}

const fn middling() -> i16 {
    50
}

impl Storylet {
    pub fn plays_in(&self, band: Band) -> bool {
        self.eras.is_empty() || self.eras.contains(&band)
    }

    pub fn fits(&self, prompt: &Prompt) -> bool {
        let known = |since| prompt.year.is_none_or(|year| year >= since);
        self.since.is_none_or(known)
            && (self.operators.is_empty() || self.operators.contains(&prompt.operator))
    }
}

/// A choice, its visible cost, and what comes of it at once and later.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    pub label: Template,
    pub hint: Template,
    pub effects: Effects,
    #[serde(default)]
    pub set: Vec<String>,
    pub then: Vec<Template>,
    #[serde(default)]
    pub later: Vec<Template>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    pub id: String,
    /// `triumph`, `loss`, `bargain`, …: no two of a pack are alike.
    pub kind: String,
    /// Weight of each pressure's distance from the middle.
    pub leans: BTreeMap<String, f32>,
    /// Flags that speak for it.
    #[serde(default)]
    pub flags: Vec<String>,
    pub text: Vec<Template>,
    pub more: Vec<Template>,
}

/// `grain<40`, `unrest>60`, `flag` or `!flag`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Need {
    Below(String, u8),
    Above(String, u8),
    Flag(String),
    NoFlag(String),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Need::Below(key, bound) => write!(f, "{key}<{bound}"),
            Need::Above(key, bound) => write!(f, "{key}>{bound}"),
            Need::Flag(flag) => f.write_str(flag),
            Need::NoFlag(flag) => write!(f, "!{flag}"),
        }
    }
}

impl From<String> for Need {
    fn from(source: String) -> Self {
        let bound = |sign: char| {
            let (key, bound) = source.split_once(sign)?;
            Some((key.trim().to_owned(), bound.trim().parse().ok()?))
        };
        if let Some((key, bound)) = bound('<') {
            Need::Below(key, bound)
        } else if let Some((key, bound)) = bound('>') {
            Need::Above(key, bound)
        } else if let Some(flag) = source.strip_prefix('!') {
            Need::NoFlag(flag.to_owned())
        } else {
            Need::Flag(source)
        }
    }
}
