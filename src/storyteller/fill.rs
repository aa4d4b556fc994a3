//! What the slots of a passage hold: the prompt's words, the cast, the pack's own words.

use super::action::Action;
use super::say::Target;
use super::template::{Case, Fill, Role, Slot, count_words};
use super::world::World;
use super::write::Writer;

pub struct Filler<'w, 'a> {
    pub writer: &'w Writer<'a>,
    pub world: &'w World,
    /// Who has been named in this scene.
    pub named: u16,
    /// Who is introduced, in this scene or before it.
    pub met: u16,
    /// What the reader said once, where that comes back.
    pub kept: Option<&'w str>,
    /// A name out of somebody else's text.
    pub subject: Option<&'w str>,
}

impl<'w, 'a> Filler<'w, 'a> {
    pub fn new(writer: &'w Writer<'a>, world: &'w World) -> Self {
        Self { writer, world, named: 0, met: world.story.met, kept: None, subject: None }
    }

    /// For choices: they never introduce anybody, and call strangers by their parts or their whole names.
    pub fn of_choices(writer: &'w Writer<'a>, world: &'w World) -> Self {
        Self { named: world.story.met, met: u16::MAX, ..Self::new(writer, world) }
    }

    const fn is_choice(&self) -> bool {
        self.met == u16::MAX
    }

    fn word(&self, word: u8) -> &str {
        if word == WHEN
            // "tonight" says when, but not to a story in the past tense.
            && let Some(era) = self.writer.prompt.era.as_ref().filter(|era| era.contains(' '))
        {
            return era;
        }
        self.writer.pack.words.word(self.world.band, word, self.writer.seed)
    }

    fn cast(&mut self, role: Role, case: Case, next: &str, out: &mut String) {
        let grammar = self.writer.grammar;
        let Some(member) = self.world.cast.get(role.index()) else {
            out.push_str(grammar.nobody);
            return;
        };
        if case != Case::Name {
            out.push_str(grammar.pronoun(member.pronoun, case));
            return;
        }
        if self.named & role.bit() != 0 {
            out.push_str(member.short());
            return;
        }
        // A choice cannot introduce anybody: "let the grocer run it" says more than a name that nobody has heard.
        if self.is_choice()
            && let Some(part) = member.title.split(',').next()
            && ["the ", "your "].iter().any(|article| part.starts_with(article))
            && !next.starts_with(['’', '\''])
        {
            out.push_str(part);
            self.named |= role.bit();
            return;
        }
        out.push_str(&member.name);
        self.named |= role.bit();
        // "Ada Lund's" leaves no room for "the keeper of the seed store", and "who knows who kept the door" has one "who"
        // too many: the introduction waits for the next scene.
        let is_clause = |text: &str| text.trim_start_matches([',', ' ']).starts_with("who ");
        let waits = next.starts_with(['’', '\'']) || is_clause(&member.title) && is_clause(next);
        if self.met & role.bit() == 0 && !waits {
            out.push_str(", ");
            out.push_str(&member.title);
            if next.is_empty() || next.starts_with(' ') {
                out.push(',');
            }
            self.met |= role.bit();
        }
    }

    /// A quotation within a quotation has marks of the inner kind.
    fn actor(&self, out: &mut String) {
        let actor = &self.writer.prompt.actor;
        let quoted = actor.strip_prefix('“').and_then(|actor| actor.strip_suffix('”'));
        let is_open = || {
            let paragraph = out.rsplit("\n\n").next().unwrap_or_default();
            paragraph.matches('“').count() > paragraph.matches('”').count()
        };
        match quoted.filter(|_| is_open()) {
            Some(quoted) => {
                out.push('‘');
                out.push_str(quoted);
                out.push('’');
            }
            None => out.push_str(actor),
        }
    }

    fn said(&self) -> &str {
        match (self.kept, self.writer.action) {
            (Some(kept), _) => kept,
            (None, Action::Said(words)) => &words.said,
            (None, _) => "",
        }
    }

    /// Whom the reader's words name.
    fn target(&self) -> Option<Role> {
        match self.writer.action {
            Action::Said(words) => match words.target {
                Some(Target::Role(role)) => Some(role),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The number of the word list that says when.
const WHEN: u8 = 0;

impl Fill for Filler<'_, '_> {
    fn fill(&mut self, slot: &Slot, next: &str, out: &mut String) {
        match slot {
            Slot::Actor => self.actor(out),
            Slot::Subject => out.push_str(self.subject.unwrap_or(&self.writer.prompt.actor)),
            Slot::Premise | Slot::Words => out.push_str(&self.writer.prompt.premise),
            Slot::Said => out.push_str(self.said()),
            Slot::Cast(role, case) => self.cast(*role, *case, next, out),
            Slot::Target(case) => match self.target() {
                Some(role) => self.cast(role, *case, next, out),
                None => out.push_str(self.writer.grammar.nobody),
            },
            Slot::Word(word) => out.push_str(self.word(*word)),
            // The content's lint sees to it that there is none.
            Slot::Named(name) => out.push_str(name),
        }
    }

    fn article(&self, text: &str) -> Option<&'static str> {
        self.writer.grammar.article.map(|article| article(text))
    }

    fn words(&self, slot: &Slot) -> usize {
        let of = |role: Role| if self.met & role.bit() == 0 { 5 } else { 2 };
        match slot {
            Slot::Actor | Slot::Subject => self.writer.actor_words,
            Slot::Premise | Slot::Words => self.writer.premise_words,
            Slot::Said => count_words(self.said()),
            Slot::Cast(role, Case::Name) => of(*role),
            Slot::Target(Case::Name) => self.target().map_or(2, of),
            Slot::Cast(..) | Slot::Target(_) => 1,
            Slot::Word(_) | Slot::Named(_) => 2,
        }
    }
}
