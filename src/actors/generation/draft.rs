//! A scene in the making, as a fold over the events of its turn: whatever wrote them, and whoever reads them.

use serde::Serialize;

use crate::domain::event::Event;
use crate::domain::ids::{SceneId, TurnId};
use crate::domain::patch::Object;
use crate::domain::scenario::{Author, Choice, Via, utf16_len};
use crate::domain::turn_format::MIN_CHOICES;

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
        Some(Self {
            turn: *turn,
            scene: *scene,
            parent: *parent,
            via: via.clone(),
            text: String::new(),
            units: 0,
            text_done: false,
            choices: Vec::new(),
            choices_done: false,
            patch: None,
            authors: vec![Author { provider: provider.clone(), model: model.clone(), off: 0 }],
        })
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
            Event::TurnStarted { .. } | Event::TurnDone { .. } | Event::TurnFailed { .. } => {}
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
}
