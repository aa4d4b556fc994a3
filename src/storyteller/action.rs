//! What the reader did, as the story understands it: one of the offered choices, or words read for what they ask.

use super::content::{Content, Offer, Pack, Storylet};
use super::prompt::{Prompt, tame};
use super::say::{MAX_SAID, Words};
use super::template::Template;
use super::world::World;
use crate::domain::scenario::Via;

/// What the reader's own words are called where a promise says what it comes from.
pub const SAID: &str = "say";

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
    Said(Box<Words<'a>>),
}

impl<'a> Action<'a> {
    pub fn read(
        via: &Via,
        world: &World,
        prompt: &Prompt,
        pack: &'a Pack,
        content: &'a Content,
    ) -> Self {
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
            Action::Said(Box::new(Words::read(text, world, prompt, pack, content)))
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

/// What is told when a promise is kept; empty when nothing is.
pub fn promised<'a>(pack: &'a Pack, content: &'a Content, from: &str) -> &'a [Template] {
    if from == SAID {
        return &content.common.kept;
    }
    let Some((at, which)) = from.rsplit_once('.') else { return &[] };
    let offers = if at == "sequel" {
        Some(&pack.sequel)
    } else {
        storylet(pack, at).map(|storylet| &storylet.choice)
    };
    let offer = which.parse::<usize>().ok().and_then(|index| offers?.get(index));
    offer.map_or(&[], |offer| &offer.later)
}
