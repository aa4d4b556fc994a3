//! What the slots of a passage hold: the prompt's words, the cast, the pack's own words.

use super::action::Action;
use super::chance::Key;
use super::template::{CORE_ROLES, Case, Fill, Role, Slot, count_words};
use super::world::{Pronoun, World};
use super::write::Writer;

pub enum Names<'w> {
    View(&'w World),
    /// May note who has been introduced.
    Hold(&'w mut World),
}

impl Names<'_> {
    pub fn world(&self) -> &World {
        match self {
            Names::View(world) => world,
            Names::Hold(world) => world,
        }
    }
}

pub struct Filler<'w, 'a> {
    pub writer: &'w Writer<'a>,
    pub world: Names<'w>,
    /// Who has been named in this scene.
    pub named: u16,
}

impl Filler<'_, '_> {
    fn word(&self, word: u8) -> &str {
        if word == 0
            // "tonight" says when, but not to a story in the past tense.
            && let Some(era) = self.writer.prompt.era.as_ref().filter(|era| era.contains(' '))
        {
            return era;
        }
        let list = self.writer.pack.words.list(self.writer.pack.era, word);
        let key = Key::new(self.writer.seed).with("word").at(u64::from(word));
        list.get(key.below(list.len())).map_or("", String::as_str)
    }

    fn cast(&mut self, role: Role, case: Case, next: Option<char>, out: &mut String) {
        let named = self.named & role.bit() != 0;
        let Some(member) =
            self.world.world().cast.get(CORE_ROLES.get(role.index()).copied().unwrap_or_default())
        else {
            out.push_str("somebody");
            return;
        };
        match case {
            Case::He => out.push_str(if member.pronoun == Pronoun::She { "she" } else { "he" }),
            Case::Him => out.push_str(if member.pronoun == Pronoun::She { "her" } else { "him" }),
            Case::His => out.push_str(if member.pronoun == Pronoun::She { "her" } else { "his" }),
            Case::Name if named => {
                out.push_str(member.name.split(' ').next_back().unwrap_or(&member.name))
            }
            Case::Name => {
                out.push_str(&member.name);
                self.named |= role.bit();
                let introduced = self.world.world().story.met & role.bit() != 0;
                // "Ada Lund's" leaves no room for "the keeper of the seed store".
                if !introduced && !matches!(next, Some('’' | '\'')) {
                    out.push_str(", ");
                    out.push_str(&member.title);
                    if next.is_none_or(|next| next == ' ') {
                        out.push(',');
                    }
                    if let Names::Hold(world) = &mut self.world {
                        world.story.met |= role.bit();
                    }
                }
            }
        }
    }
}

impl Fill for Filler<'_, '_> {
    fn fill(&mut self, slot: &Slot, next: Option<char>, out: &mut String) {
        match slot {
            Slot::Actor | Slot::Subject => out.push_str(&self.writer.prompt.actor),
            Slot::Premise | Slot::Words => out.push_str(&self.writer.prompt.premise),
            Slot::Said => {
                if let Action::Said(words) = self.writer.action {
                    out.push_str(&words.said);
                }
            }
            Slot::Cast(role, case) => self.cast(*role, *case, next, out),
            Slot::Word(word) => {
                let word = self.word(*word).to_owned();
                out.push_str(&word);
            }
            Slot::Named(name) => out.push_str(name),
        }
    }

    fn words(&self, slot: &Slot) -> usize {
        match slot {
            Slot::Actor | Slot::Subject => count_words(&self.writer.prompt.actor),
            Slot::Premise | Slot::Words => count_words(&self.writer.prompt.premise),
            Slot::Said => match self.writer.action {
                Action::Said(words) => count_words(&words.said),
                _ => 0,
            },
            Slot::Cast(role, Case::Name) if self.world.world().story.met & role.bit() == 0 => 5,
            Slot::Cast(_, Case::Name) => 2,
            Slot::Cast(..) => 1,
            Slot::Word(_) | Slot::Named(_) => 2,
        }
    }
}

/// Fills `{subject}` with a name out of somebody else's text.
pub struct About<'w, 'a, 's> {
    pub inner: Filler<'w, 'a>,
    pub subject: &'s str,
}

impl Fill for About<'_, '_, '_> {
    fn fill(&mut self, slot: &Slot, next: Option<char>, out: &mut String) {
        match slot {
            Slot::Subject => out.push_str(self.subject),
            slot => self.inner.fill(slot, next, out),
        }
    }

    fn words(&self, slot: &Slot) -> usize {
        self.inner.words(slot)
    }
}
