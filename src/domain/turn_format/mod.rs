//! The turn format: how a provider writes a scene as one stream of text.
//!
//! ```text
//! Prose, in paragraphs.
//! <<<CHOICES>>>
//! 1. Label | hint
//! 2. Label
//! <<<STATE>>>
//! {"key": "value"}
//! ```
//!
//! Providers produce it ([`render`] for those that know the scene beforehand); turns read it with a [`TurnParser`],
//! one per provider call. Nothing here numbers choices, counts offsets or knows of events: that is the turn's.

mod choice;
mod parser;
#[cfg(test)]
mod tests;

pub use parser::TurnParser;

use super::patch::Object;
use super::scenario::Choice;

/// Ends the prose.
pub const CHOICES_MARKER: &str = "<<<CHOICES>>>";
/// Ends the choices.
pub const STATE_MARKER: &str = "<<<STATE>>>";

/// Who is asked for choices and patch alone may answer with one object instead: an array of `{label, hint}`, and a patch.
pub const OBJECT_CHOICES: &str = "choices";
pub const OBJECT_STATE: &str = "state";

/// Fewest choices that make a scene playable.
pub const MIN_CHOICES: usize = 2;
/// Most choices that a scene offers; further ones are dropped.
pub const MAX_CHOICES: usize = 4;
/// Longest label and longest hint, in characters; longer ones are cut at a word.
pub const MAX_LABEL_CHARS: usize = 200;
/// Longest prose, in characters; it counts as finished there.
pub const MAX_PROSE_CHARS: usize = 20_000;
/// Most bytes between the markers.
pub const MAX_CHOICES_BYTES: usize = 4 * 1024;
/// Most bytes after the state marker.
pub const MAX_PATCH_BYTES: usize = 8 * 1024;

/// A part of a scene, as soon as it is certain.
///
/// A parser emits them in this order: any number of `Text`, `ProseDone`, up to [`MAX_CHOICES`] `Choice`, `ChoicesDone`,
/// at most one `Patch`. One that reads choices only leaves out `Text` and `ProseDone`.
#[derive(Debug, PartialEq)]
pub enum Piece<'a> {
    /// Never empty; all of them together neither start nor end in white space.
    Text(&'a str),
    ProseDone,
    Choice {
        label: String,
        hint: Option<String>,
    },
    /// The provider offers no more; whether they suffice says the [`Verdict`].
    ChoicesDone,
    /// A merge patch on the world state.
    Patch(Object),
}

/// Takes the pieces of a scene; any `FnMut(Piece<'_>)` is one.
pub trait Sink {
    fn piece(&mut self, piece: Piece<'_>);
}

impl<F: FnMut(Piece<'_>)> Sink for F {
    fn piece(&mut self, piece: Piece<'_>) {
        self(piece);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProseVerdict {
    Whole,
    /// Nothing but white space came.
    Empty,
    /// Cut at [`MAX_PROSE_CHARS`]; what followed was not read.
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchVerdict {
    Valid,
    Missing,
    /// Not a JSON object, or larger than [`MAX_PATCH_BYTES`].
    Invalid,
}

/// What a stream that ended had and had not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub prose: ProseVerdict,
    /// Whether [`CHOICES_MARKER`] came; without it the prose may be cut off in the middle.
    pub choices_marker: bool,
    /// Valid choices, those known beforehand included.
    pub choices: usize,
    pub patch: PatchVerdict,
}

impl Verdict {
    /// Whether the scene lacks choices and the caller has to get them elsewhere.
    pub const fn needs_choices(&self) -> bool {
        self.choices < MIN_CHOICES
    }

    /// Whether the provider kept to the format.
    pub fn is_clean(&self) -> bool {
        self.prose == ProseVerdict::Whole
            && self.choices_marker
            && !self.needs_choices()
            && self.patch == PatchVerdict::Valid
    }
}

/// Writes a scene in the turn format. The ids of the choices are not part of it.
///
/// `prose` must not contain a marker. Line breaks and `|` in labels and hints are replaced, since they would split them.
pub fn render(prose: &str, choices: &[Choice], patch: &Object) -> String {
    let mut text = String::with_capacity(prose.len() + 128 * (choices.len() + 1));
    text.push_str(prose.trim());
    text.push('\n');
    text.push_str(&render_choices(choices, patch));
    text
}

/// The part of [`render`] after the prose, for a provider that was asked for choices only.
pub fn render_choices(choices: &[Choice], patch: &Object) -> String {
    use std::fmt::Write;
    let one_line =
        |text: &str| text.replace('|', "/").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut text = format!("{CHOICES_MARKER}\n");
    for (number, choice) in choices.iter().enumerate() {
        let _ = write!(text, "{}. {}", number + 1, one_line(&choice.label));
        if let Some(hint) = &choice.hint {
            let _ = write!(text, " | {}", one_line(hint));
        }
        text.push('\n');
    }
    text.push_str(STATE_MARKER);
    text.push('\n');
    text.push_str(&serde_json::to_string(patch).expect("an object of JSON values is JSON"));
    text.push('\n');
    text
}
