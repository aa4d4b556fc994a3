//! A scene in the making, as a fold over the events of its turn: whatever wrote them, and whoever reads them.

use serde::Serialize;

use crate::domain::event::Event;
use crate::domain::ids::{SceneId, TurnId};
use crate::domain::patch::Object;
use crate::domain::scenario::{Author, Choice, Via, utf16_len};
use crate::domain::turn_format::MIN_CHOICES;

/// Longest piece of a text that is logged as one delta, in bytes.
const DELTA_BYTES: usize = 8 * 1024;
/// Why a text went on with another provider, where that is not known any more.
const CARRIED_OVER: &str = "carried_over";

/// Also the `open_turn` of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Draft {
    pub turn: TurnId,
    pub scene: SceneId,
    pub parent: Option<SceneId>,
    pub via: Via,
    pub text: String,
    /// UTF-16 length of `text`.
    #[serde(rename = "len")]
    pub units: usize,
    pub text_done: bool,
    pub choices: Vec<Choice>,
    pub choices_done: bool,
    pub patch: Option<Object>,
    /// Provider and model names as the events give them.
    #[serde(skip)]
    pub authors: Vec<Author>,
}

impl Draft {
    /// The draft that a `turn.started` begins; `None` for another event.
    pub fn begin(event: &Event) -> Option<Self> {
        let Event::TurnStarted { turn, scene, parent, via, provider, model } = event else {
            return None;
        };
        Some(Self::new(*turn, *scene, *parent, via.clone(), provider.clone(), model.clone()))
    }

    pub fn new(
        turn: TurnId,
        scene: SceneId,
        parent: Option<SceneId>,
        via: Via,
        provider: String,
        model: String,
    ) -> Self {
        Self {
            turn,
            scene,
            parent,
            via,
            text: String::new(),
            units: 0,
            text_done: false,
            choices: Vec::new(),
            choices_done: false,
            patch: None,
            authors: vec![Author { provider, model, off: 0 }],
        }
    }

    /// The text before an offset in UTF-16 code units.
    pub fn before(&self, off: usize) -> &str {
        let mut units = 0;
        let end = self.text.char_indices().find(|(_, c)| {
            units += c.len_utf16();
            units > off
        });
        end.map_or(&self.text, |(at, _)| &self.text[..at])
    }

    /// Applies an event of the draft's turn.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::TextDelta { text, .. } => {
                self.text.push_str(text);
                self.units += utf16_len(text);
            }
            Event::TextDone { .. } => self.text_done = true,
            Event::Choice { choice, .. } => self.choices.push(choice.clone()),
            Event::ChoicesDone { .. } => self.choices_done = true,
            Event::StatePatch { patch, .. } => self.patch = Some(patch.clone()),
            Event::TurnFailover { to, off, .. } => {
                self.authors.push(Author { provider: to.clone(), model: String::new(), off: *off });
            }
            Event::TurnStarted { .. }
            | Event::TurnDone { .. }
            | Event::TurnRetracted { .. }
            | Event::TurnFailed { .. } => {}
        }
    }

    /// Whether a reader could go on from it.
    pub fn is_playable(&self) -> bool {
        self.text_done && self.choices.len() >= MIN_CHOICES
    }

    /// Whether nothing of the scene is left to be told. Every scene that was told to its end has a patch, if only an
    /// empty one; so a turn that was cut off before it is told from one that changed nothing.
    pub fn is_whole(&self) -> bool {
        self.is_playable() && self.patch.is_some()
    }

    /// The draft that a log's events end in; `None` if their last turn is over (or none began).
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Self> {
        let mut draft: Option<Self> = None;
        for event in events {
            match event {
                Event::TurnStarted { .. } => draft = Self::begin(event),
                Event::TurnDone { .. } | Event::TurnFailed { .. } => draft = None,
                _ => {
                    if let Some(draft) = &mut draft {
                        draft.apply(event);
                    }
                }
            }
        }
        draft
    }

    /// Events that fold into this draft, in as few pieces as there can be.
    pub fn retold(&self) -> Vec<Event> {
        let turn = self.turn;
        let mut authors = self.authors.iter();
        let first = authors.next();
        let mut from = first.map(|author| author.provider.clone()).unwrap_or_default();
        let mut events = vec![Event::TurnStarted {
            turn,
            scene: self.scene,
            parent: self.parent,
            via: self.via.clone(),
            provider: from.clone(),
            model: first.map(|author| author.model.clone()).unwrap_or_default(),
        }];
        let (mut rest, mut off) = (self.text.as_str(), 0);
        for author in authors {
            let (before, after) = split_utf16(rest, author.off.saturating_sub(off));
            events.extend(text_deltas(turn, off, before));
            (rest, off) = (after, author.off);
            let to = author.provider.clone();
            let reason = CARRIED_OVER.to_owned();
            events.push(Event::TurnFailover { turn, from, to: to.clone(), off, reason });
            from = to;
        }
        events.extend(text_deltas(turn, off, rest));
        if self.text_done {
            events.push(Event::TextDone { turn, len: self.units });
        }
        events.extend(self.choices.iter().cloned().map(|choice| Event::Choice { turn, choice }));
        if self.choices_done {
            events.push(Event::ChoicesDone { turn });
        }
        events.extend(self.patch.clone().map(|patch| Event::StatePatch { turn, patch }));
        events
    }
}

/// A text that is known at once, as deltas from `off` on.
pub fn text_deltas(turn: TurnId, mut off: usize, text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(DELTA_BYTES));
        events.push(Event::TextDelta { turn, off, text: piece.to_owned() });
        off += utf16_len(piece);
        rest = after;
    }
    events
}

/// Splits after so many UTF-16 code units.
fn split_utf16(text: &str, units: usize) -> (&str, &str) {
    let mut seen = 0;
    let at = text.char_indices().find(|(_, c)| {
        let here = seen >= units;
        seen += c.len_utf16();
        here
    });
    text.split_at(at.map_or(text.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_draft_that_is_told_again_is_the_same_draft() {
        let turn = TurnId(Uuid::max());
        let author =
            |provider: &str, off| Author { provider: provider.into(), model: String::new(), off };
        let choice = Choice { id: "c1".into(), label: "Go".into(), hint: None };
        let text = format!("é𝄞 went. {}", "𝄞x".repeat(5_000));
        let mut draft =
            Draft::new(turn, SceneId(3), Some(SceneId(1)), Via::Prompt, "a".into(), "m".into());
        assert_eq!(Draft::fold(&draft.retold()), Some(draft.clone()));
        (draft.units, draft.text) = (utf16_len(&text), text);
        draft.authors.extend([author("b", 3), author("c", 3), author("d", draft.units)]);
        assert_eq!(Draft::fold(&draft.retold()), Some(draft.clone()));
        (draft.text_done, draft.choices) = (true, vec![choice]);
        assert_eq!(Draft::fold(&draft.retold()), Some(draft.clone()));
        (draft.choices_done, draft.patch) = (true, Some(Object::default()));
        assert_eq!(Draft::fold(&draft.retold()), Some(draft));
    }
}
