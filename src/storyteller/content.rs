//! The stories' content as it stands in `assets/storyteller/`: packs, the common passages and the names. Read once.
//! A further pack is a further file and a line in [`PACKS`]; `lint` says what a pack must have.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::template::{Role, Template};

/// Changes of pressures, in points.
pub type Effects = BTreeMap<String, i16>;

/// One domain: a world of pressures, parts to cast, and everything that can happen there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    pub id: String,
    /// Words of a prompt that speak for this pack.
    pub keywords: Vec<String>,
    /// Sights and sounds, a sentence or two each.
    pub details: Vec<Template>,
    /// What harsh or gentle words of the reader do.
    pub harsh: Effects,
    pub gentle: Effects,
    pub pressure: Vec<Pressure>,
    /// Word lists; a story keeps to one word of each. `when` stands in for a prompt without an era.
    pub words: BTreeMap<String, Vec<String>>,
    /// What an intent of free text does here.
    pub intents: BTreeMap<String, Effects>,
    pub role: Vec<Part>,
    pub opening: Storylet,
    pub storylet: Vec<Storylet>,
    pub ending: Vec<Ending>,
    /// Ways on after an ending.
    pub sequel: Vec<Offer>,
}

/// A state variable, 0 to 100.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pressure {
    pub key: String,
    pub start: u8,
    /// The end of the scale that hurts.
    pub bad: Scale,
    pub low: Vec<Template>,
    pub high: Vec<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    Low,
    High,
}

/// A part of the cast.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub key: Role,
    pub titles: Vec<String>,
    pub goal: Vec<Goal>,
}

/// What a cast member is after, and the steps taken towards it behind the reader's back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goal {
    pub text: String,
    pub effects: Effects,
    pub moves: Vec<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    #[default]
    Chronicle,
    Letter,
    Newspaper,
    Testimony,
    Minutes,
}

/// A situation that ends in a decision.
#[derive(Debug, Deserialize)]
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

/// Passages that any pack uses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// By operator: the sentences that follow the premise.
    pub hinge: BTreeMap<String, Vec<Template>>,
    /// How a prompt without a statement in it enters the world.
    pub quoted: Vec<Template>,
    /// Sights and sounds of any place.
    pub details: Vec<Template>,
    /// The reader's decision was carried out once more.
    pub again: Vec<Template>,
    /// Somebody named in the reader's words reacts, by role.
    pub target: BTreeMap<Role, Vec<Template>>,
    pub harsh: Vec<Template>,
    pub gentle: Vec<Template>,
    /// Goes on after a sentence that another hand left unfinished.
    pub broken: Vec<Template>,
    pub voice: Vec<Voice>,
    pub intent: Vec<Intent>,
}

/// A colouring by genre or tone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voice {
    pub id: String,
    pub keywords: Vec<String>,
    pub lines: Vec<Template>,
}

/// What free text asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    pub id: String,
    pub words: Vec<String>,
    pub then: Vec<Template>,
    /// As a choice after somebody else's text.
    pub label: Vec<Template>,
    pub hint: Template,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    pool: Vec<Pool>,
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

#[derive(Debug)]
pub struct Content {
    /// The last one takes whatever no other pack knows.
    pub packs: Vec<Pack>,
    pub common: Common,
    /// The last one serves everywhere.
    pub names: Vec<Pool>,
}

const PACKS: [(&str, &str); 4] = [
    ("empire", include_str!("../../assets/storyteller/empire.toml")),
    ("invention", include_str!("../../assets/storyteller/invention.toml")),
    ("nature", include_str!("../../assets/storyteller/nature.toml")),
    ("anywhere", include_str!("../../assets/storyteller/anywhere.toml")),
];
const COMMON: &str = include_str!("../../assets/storyteller/common.toml");
const NAMES: &str = include_str!("../../assets/storyteller/names.toml");

fn read<T: serde::de::DeserializeOwned>(name: &str, source: &str) -> T {
    // Compiled in and linted by a test: it cannot fail in a build that passed its tests.
    toml::from_str(source).unwrap_or_else(|error| panic!("assets/storyteller/{name}.toml: {error}"))
}

pub static CONTENT: LazyLock<Content> = LazyLock::new(|| Content {
    packs: PACKS.iter().map(|(name, source)| read(name, source)).collect(),
    common: read("common", COMMON),
    names: read::<Names>("names", NAMES).pool,
});

impl Content {
    pub fn pack(&self, id: &str) -> Option<&Pack> {
        self.packs.iter().find(|pack| pack.id == id)
    }

    /// The pack whose keywords the prompt's words hit most; the last pack when none does.
    pub fn pack_for(&self, words: &[String]) -> &Pack {
        let mut best = &self.packs[self.packs.len() - 1];
        let mut most = 0;
        for pack in &self.packs {
            let hits = hits(&pack.keywords, words);
            if hits > most {
                (best, most) = (pack, hits);
            }
        }
        best
    }

    pub fn names_for(&self, words: &[String]) -> &Pool {
        let last = &self.names[self.names.len() - 1];
        self.names
            .iter()
            .map(|pool| (hits(&pool.keywords, words), pool))
            .filter(|(hits, _)| *hits > 0)
            .max_by_key(|(hits, _)| *hits)
            .map_or(last, |(_, pool)| pool)
    }
}

/// How many of `words` are keywords, one slip of the pen allowed in longer words.
pub fn hits(keywords: &[String], words: &[String]) -> usize {
    words.iter().filter(|word| keywords.iter().any(|keyword| same_word(keyword, word))).count()
}

/// Equal, a plural or participle of it, or one letter off in a word of six or more.
pub fn same_word(keyword: &str, word: &str) -> bool {
    if word == keyword {
        return true;
    }
    if let Some(tail) = word.strip_prefix(keyword) {
        return keyword.len() >= 3
            && ["s", "es", "d", "ed", "n", "ing", "'s", "’s"].contains(&tail);
    }
    keyword.len() >= 6
        && word.len() >= 5
        && keyword.bytes().next() == word.bytes().next()
        && one_slip(keyword.as_bytes(), word.as_bytes())
}

/// One letter missing, added, wrong, or two neighbours swapped.
fn one_slip(a: &[u8], b: &[u8]) -> bool {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let Some(at) = short.iter().zip(long).position(|(x, y)| x != y) else { return true };
    if long.len() > short.len() {
        return long[at + 1..] == short[at..];
    }
    long[at + 1..] == short[at + 1..]
        || (at + 1 < long.len()
            && long[at] == short[at + 1]
            && long[at + 1] == short[at]
            && long[at + 2..] == short[at + 2..])
}
