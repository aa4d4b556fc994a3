//! The reader's own words, read for what they ask, of whom, and in which tone.

use super::content::{Content, Intent, Pack, phrase_hits, same_word};
use super::prompt::{Prompt, tame, words_of};
use super::template::Role;
use super::world::World;

/// Longest quotation of the reader's words, in characters.
pub const MAX_SAID: usize = 90;
/// A shorter word says too little to choose a situation by.
const TELLING: usize = 5;
/// Most words that are looked at.
const MAX_WORDS: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Plain,
    Harsh,
    Gentle,
}

/// Who or what is spoken to or of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Role(Role),
    Place,
    /// What the prompt is about.
    Actor,
}

#[derive(Debug, Clone)]
pub struct Words<'a> {
    /// Fit to be quoted.
    pub said: String,
    pub words: Vec<String>,
    /// Those that may choose what happens next.
    pub telling: Vec<String>,
    pub intent: &'a Intent,
    pub manner: Manner,
    pub target: Option<Target>,
}

impl<'a> Words<'a> {
    pub fn read(
        text: &str,
        world: &World,
        prompt: &Prompt,
        pack: &Pack,
        content: &'a Content,
    ) -> Self {
        let mut words = words_of(&tame(text, 2_000));
        words.truncate(MAX_WORDS);
        let said = tame(text, MAX_SAID);
        let said = said.trim_end_matches(['.', '!', '?', ',', ' ', '…']);
        let said = if said.is_empty() { "…" } else { said }.to_owned();
        let mut telling: Vec<String> =
            words.iter().filter(|word| word.chars().count() >= TELLING).cloned().collect();
        telling.sort();
        telling.dedup();
        telling.truncate(12);
        Self {
            intent: intent(&words, content),
            manner: manner(text, &words),
            target: target(&words, world, prompt, pack),
            said,
            words,
            telling,
        }
    }
}

/// The intent hit by most words; an early word counts for more, since it tends to be the verb. The first intent is
/// what remains: to speak up.
fn intent<'a>(words: &[String], content: &'a Content) -> &'a Intent {
    let mut best = &content.common.intent[0];
    let mut most = 0;
    for intent in &content.common.intent {
        let early = &words[..words.len().min(4)];
        let score = phrase_hits(&intent.words, words) + 2 * phrase_hits(&intent.words, early);
        if score > most {
            (best, most) = (intent, score);
        }
    }
    best
}

fn manner(text: &str, words: &[String]) -> Manner {
    const HARSH: [&str; 25] = [
        "kill",
        "hang",
        "burn",
        "destroy",
        "crush",
        "execute",
        "punish",
        "threaten",
        "damn",
        "hate",
        "force",
        "attack",
        "whip",
        "shoot",
        "torture",
        "traitor",
        "fool",
        "immediately",
        "giết",
        "đốt",
        "phá",
        "trừng",
        "ép",
        "ghét",
        "treo",
    ];
    const GENTLE: [&str; 22] = [
        "please",
        "gently",
        "kindly",
        "carefully",
        "peacefully",
        "forgive",
        "thank",
        "sorry",
        "comfort",
        "mercy",
        "love",
        "hope",
        "quietly",
        "softly",
        "share",
        "listen",
        "xin",
        "cảm",
        "tha",
        "yêu",
        "nhẹ",
        "lắng",
    ];
    let count = |known: &[&str]| {
        words.iter().filter(|word| known.iter().any(|known| same_word(known, word))).count()
    };
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let shouted =
        letters >= 8 && text.chars().filter(|c| c.is_uppercase()).count() * 10 > letters * 7;
    let harsh = count(&HARSH) + usize::from(shouted) + usize::from(text.contains("!!"));
    match harsh.cmp(&count(&GENTLE)) {
        std::cmp::Ordering::Greater => Manner::Harsh,
        std::cmp::Ordering::Less => Manner::Gentle,
        std::cmp::Ordering::Equal => Manner::Plain,
    }
}

/// A member of the cast by name, part or title; else what the prompt is about; else a place.
fn target(words: &[String], world: &World, prompt: &Prompt, pack: &Pack) -> Option<Target> {
    let has = |part: &str| {
        let part = part.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
        part.chars().count() > 2 && words.contains(&part)
    };
    let roles = || (0..world.cast.len()).map(|index| Role(index as u8));
    let named = roles().find(|role| world.cast[role.index()].name.split(' ').any(has));
    // "The surveyor of bridges" is called by the word before the first "of".
    let office = |title: &str| {
        let head = title.split(" of ").next().unwrap_or(title);
        head.split(' ').filter(|word| word.len() >= TELLING).any(has)
    };
    let titled = || {
        roles().find(|role| {
            (!role.is_core() && has(&pack.role[role.index()].key))
                || office(&world.cast[role.index()].title)
        })
    };
    if let Some(role) = named.or_else(titled) {
        return Some(Target::Role(role));
    }
    let nouns = |text: &str| {
        text.split(' ').any(|word| word.chars().count() >= 4 && has(word) && !among_articles(word))
    };
    if nouns(&prompt.actor) {
        return Some(Target::Actor);
    }
    let places = pack
        .words
        .names()
        .iter()
        .enumerate()
        .filter(|(_, name)| ["place", "hall", "room", "pass", "town"].contains(&name.as_str()));
    places
        .flat_map(|(at, _)| pack.words.list(world.band, at as u8))
        .any(|place| nouns(place))
        .then_some(Target::Place)
}

fn among_articles(word: &str) -> bool {
    ["that", "with", "this", "your", "from", "into"].contains(&word)
}
