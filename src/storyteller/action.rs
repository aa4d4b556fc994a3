//! What the reader did, as the story understands it: one of the offered choices, or words read for what they ask.

use super::content::{Content, Intent, Offer, Pack, Storylet, same_word};
use super::prompt::{tame, words_of};
use super::template::{CORE_ROLES, Role};
use super::world::World;
use crate::domain::scenario::Via;

/// Longest quotation of the reader's words, in characters.
const MAX_SAID: usize = 90;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Plain,
    Harsh,
    Gentle,
}

#[derive(Debug, Clone)]
pub enum Action<'a> {
    /// The first scene.
    Begin,
    /// Nothing to answer: the reader rewrote the scene.
    Silent,
    /// A choice this engine offered; `from` names it in the state.
    Offered {
        offer: &'a Offer,
        from: String,
        sequel: bool,
    },
    Said(Words<'a>),
}

/// Free text.
#[derive(Debug, Clone)]
pub struct Words<'a> {
    /// Fit to be quoted.
    pub said: String,
    pub words: Vec<String>,
    pub intent: &'a Intent,
    pub manner: Manner,
    /// Who of the cast is named.
    pub target: Option<Role>,
}

impl<'a> Action<'a> {
    pub fn read(via: &Via, world: &World, pack: &'a Pack, content: &'a Content) -> Self {
        let (choice, text) = match via {
            Via::Prompt => return Action::Begin,
            Via::Edit { .. } | Via::Jump => return Action::Silent,
            Via::Choose { choice, text } => (Some(choice), text.as_str()),
            Via::Say { text } => (None, text.as_str()),
            Via::Retry { choice, text, .. } => match (choice, text) {
                (_, None) if world.turn == 0 => return Action::Begin,
                (None, None) => return Action::Silent,
                (choice, text) => (choice.as_ref(), text.as_deref().unwrap_or_default()),
            },
        };
        if let Some(choice) = choice
            && let Some(action) = offered(choice, text, world, pack)
        {
            return action;
        }
        if tame(text, MAX_SAID).is_empty() {
            Action::Silent
        } else {
            Action::Said(Words::read(text, world, content))
        }
    }

    pub fn words(&self) -> &[String] {
        match self {
            Action::Said(words) => &words.words,
            _ => &[],
        }
    }
}

/// The choice `cN` of what was offered last, if it was this engine that offered.
fn offered<'a>(choice: &str, text: &str, world: &World, pack: &'a Pack) -> Option<Action<'a>> {
    let index = choice.strip_prefix('c')?.parse::<usize>().ok()?.checked_sub(1)?;
    let at = world.story.at.as_str();
    let sequel = pack.ending.iter().any(|ending| ending.id == at);
    let offers = if sequel { &pack.sequel } else { &storylet(pack, at)?.choice };
    // After a scene of another writer the state may still name our last situation; the words tell.
    let offer = offers.get(index).filter(|offer| text.is_empty() || offer.label.could_be(text))?;
    Some(Action::Offered {
        offer,
        from: format!("{}.{index}", if sequel { "sequel" } else { at }),
        sequel,
    })
}

pub fn storylet<'a>(pack: &'a Pack, id: &str) -> Option<&'a Storylet> {
    if pack.opening.id == id {
        Some(&pack.opening)
    } else {
        pack.storylet.iter().find(|storylet| storylet.id == id)
    }
}

/// The offer that a promise was made about.
pub fn promised<'a>(pack: &'a Pack, from: &str) -> Option<&'a Offer> {
    let (at, index) = from.rsplit_once('.')?;
    let offers = if at == "sequel" { &pack.sequel } else { &storylet(pack, at)?.choice };
    offers.get(index.parse::<usize>().ok()?)
}

impl<'a> Words<'a> {
    pub fn read(text: &str, world: &World, content: &'a Content) -> Self {
        let words = words_of(&tame(text, 2_000));
        let said = tame(text, MAX_SAID);
        let said = said.trim_end_matches(['.', '!', '?', ',', ' ', '…']);
        let said = if said.is_empty() { "…" } else { said }.to_owned();
        Self {
            intent: intent(&words, content),
            manner: manner(text, &words),
            target: target(&words, world),
            said,
            words,
        }
    }
}

/// The intent hit by most words; an early word counts for more. The first intent is what remains: to speak up.
fn intent<'a>(words: &[String], content: &'a Content) -> &'a Intent {
    let mut best = &content.common.intent[0];
    let mut most = 0;
    for intent in &content.common.intent {
        let score: usize = words
            .iter()
            .take(60)
            .enumerate()
            .filter(|(_, word)| intent.words.iter().any(|known| same_word(known, word)))
            .map(|(at, _)| if at < 4 { 3 } else { 1 })
            .sum();
        if score > most {
            (best, most) = (intent, score);
        }
    }
    best
}

fn manner(text: &str, words: &[String]) -> Manner {
    const HARSH: [&str; 18] = [
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
    ];
    const GENTLE: [&str; 16] = [
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

fn target(words: &[String], world: &World) -> Option<Role> {
    (0..4).map(Role).find(|role| {
        world.cast.get(CORE_ROLES[role.index()]).is_some_and(|member| {
            member.name.split(' ').any(|part| {
                part.chars().count() > 2 && words.iter().any(|word| *word == part.to_lowercase())
            })
        })
    })
}
