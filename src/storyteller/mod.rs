//! The embedded story engine: parses a prompt, simulates causes, writes scenes. Pure and deterministic; its content
//! is data under `assets/storyteller/`.
//!
//! Called by the storyteller provider for whole scenes, by turns to mend a model's choices and patches, and by `main`
//! for a story to read (`tell`). It never does I/O, never asks for the time or for chance: the same [`Input`] gives
//! the same bytes on every replica, so a scene that was cut off anywhere can be taken up by anyone. `lint` checks the
//! content for its authors and is not part of telling; it alone reads files.
//!
//! A scene goes `prompt` -> `world` -> `action` -> `plan` -> `write`; `resume` takes up a scene that
//! readers have partly seen.

pub mod action;
mod chance;
mod content;
mod fill;
mod grammar;
mod lexicon;
pub mod lint;
mod plan;
pub mod prompt;
mod resume;
mod say;
mod subject;
pub mod tell;
mod template;
mod world;
mod write;

#[cfg(test)]
mod tests;

use crate::domain::patch::Object;
use crate::domain::scenario::{Length, Via};

use self::action::Action;
use self::chance::Key;
use self::content::{Content, Pack, Taste, Voice, content};
use self::grammar::Grammar;
use self::plan::{Plan, Table};
use self::prompt::{Prompt, words_of};
use self::template::count_words;
use self::world::World;
use self::write::Writer;

/// Everything a scene is made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    pub prompt: &'a str,
    pub genre: Option<&'a str>,
    pub tone: Option<&'a str>,
    pub length: Length,
    /// A tag like `en` or `vi-VN`. A language that no content is in gets English.
    pub language: &'a str,
    pub seed: u64,
    /// The world state after the parent scene.
    pub state: &'a Object,
    /// What the reader did to get here.
    pub via: &'a Via,
    /// 0 for the first telling, higher for each retry.
    pub variation: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub label: String,
    /// What it costs.
    pub hint: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Paragraphs parted by one blank line.
    pub prose: String,
    /// 2 to 4.
    pub choices: Vec<Choice>,
    /// RFC 7386, on the input's state.
    pub patch: Object,
}

impl Scene {
    /// The part after the prose, in the turn format.
    pub fn tail(&self) -> String {
        use std::fmt::Write;
        let mut out = String::from("\n<<<CHOICES>>>\n");
        for (index, choice) in self.choices.iter().enumerate() {
            let _ = write!(out, "{}. {}", index + 1, choice.label);
            if !choice.hint.is_empty() {
                let _ = write!(out, " | {}", choice.hint);
            }
            out.push('\n');
        }
        // A map of JSON values always prints.
        let patch = serde_json::to_string(&self.patch).unwrap_or_else(|_| "{}".to_owned());
        let _ = writeln!(out, "<<<STATE>>>\n{patch}");
        out
    }
}

/// Bounds of a scene in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Short,
    Medium,
    Long,
}

impl Size {
    const fn words(self) -> (usize, usize) {
        match self {
            Size::Short => (92, 150),
            Size::Medium => (168, 232),
            Size::Long => (224, 310),
        }
    }
}

/// Writes the scene from its beginning.
pub fn compose(input: &Input<'_>) -> Scene {
    let telling = Telling::begin(input);
    telling.write(input, Hand::Whole)
}

/// Writes what is missing of a scene whose text `shown` readers have seen: the rest of [`compose`]'s prose when
/// `shown` is a beginning of it, else a continuation of somebody else's text. `prose` never repeats `shown`.
pub fn continue_from(input: &Input<'_>, shown: &str) -> Scene {
    if shown.is_empty() {
        return compose(input);
    }
    resume::take_up(input, shown)
}

/// The choices and the patch for a scene whose text is whole.
pub fn choices_only(input: &Input<'_>, text: &str) -> Scene {
    let own = compose(input);
    if own.prose == text {
        return Scene { prose: String::new(), ..own };
    }
    let (choices, patch) = after_foreign_text(input, text);
    Scene { prose: String::new(), choices, patch }
}

/// Choices for a scene that somebody else wrote, made from its words and the state.
pub fn choices_for(input: &Input<'_>, text: &str) -> Vec<Choice> {
    choices_only(input, text).choices
}

/// The patch for a scene that somebody else wrote: the turn passes and the reader's action takes effect.
pub fn patch_for(input: &Input<'_>, text: &str) -> Object {
    choices_only(input, text).patch
}

fn after_foreign_text(input: &Input<'_>, text: &str) -> (Vec<Choice>, Object) {
    let telling = Telling::begin(input);
    let action = telling.action(input);
    let mut world = telling.world.clone();
    plan::advance(&mut world, &action, &telling.table(input));
    plan::pass(&mut world, telling.pack);
    let subjects = resume::subjects(text, &world, &telling.prompt);
    let writer = telling.writer(input, &action);
    let choices = plan::open_intents(telling.pack, telling.content, telling.key)
        .into_iter()
        .enumerate()
        .map(|(index, intent)| {
            let subject = Some(subjects[index % subjects.len()].as_str());
            let label = &intent.label[telling.key.with(&intent.id).below(intent.label.len())];
            Choice {
                label: writer.line(&world, label, subject),
                hint: writer.line(&world, &intent.hint, subject),
            }
        })
        .collect();
    (choices, world.patch(input.state, telling.pack))
}

/// Whether a scene is told whole or taken up in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    Whole,
    TakenUp,
}

/// A scene about to be told.
struct Telling {
    content: &'static Content,
    prompt: Prompt,
    world: World,
    pack: &'static Pack,
    /// Of the action, whatever the telling.
    key: Key,
    /// Of the tone, then of the genre.
    voices: [Option<&'static Voice>; 2],
}

impl Telling {
    fn begin(input: &Input<'_>) -> Self {
        let content = content(input.language);
        let prompt = prompt::parse(input.prompt, content.language);
        let (world, pack) = World::read(input.state, &prompt, input.seed, content);
        let mut key = Key::new(input.seed).at(u64::from(world.turn)).with(&world.story.at);
        if let Some(text) = input.via.text() {
            key = key.with(text);
        }
        // Whoever decided otherwise once meets other chances from there on.
        for flag in &world.flags {
            key = key.with(flag);
        }
        let voices = [(input.tone, Taste::Tone), (input.genre, Taste::Genre)]
            .map(|(taste, kind)| content.voice(&words_of(taste?), kind));
        Self { content, prompt, world, pack, key, voices }
    }

    fn action(&self, input: &Input<'_>) -> Action<'static> {
        Action::read(input.via, &self.world, &self.prompt, self.pack, self.content)
    }

    fn table(&self, input: &Input<'_>) -> Table<'_> {
        Table {
            pack: self.pack,
            content: self.content,
            prompt: &self.prompt,
            key: self.key,
            seed: input.seed,
            variation: input.variation,
        }
    }

    fn writer<'a>(&'a self, input: &Input<'_>, action: &'a Action<'a>) -> Writer<'a> {
        let size = match input.length {
            Length::Short => Size::Short,
            Length::Medium => Size::Medium,
            Length::Long => Size::Long,
        };
        // The reader's own words may have a tone of their own, for as long as they are answered.
        let mut voices = self.voices;
        if let Action::Said(words) = action
            && let Some(voice) = self.content.voice(&words.words, Taste::Tone)
            && voice.kind == Taste::Tone
        {
            voices[0] = Some(voice);
        }
        Writer {
            content: self.content,
            pack: self.pack,
            prompt: &self.prompt,
            grammar: Grammar::of(self.content.language),
            seed: input.seed,
            key: self.key.at(u64::from(input.variation)),
            size,
            voices,
            action,
            actor_words: count_words(&self.prompt.actor),
            premise_words: count_words(&self.prompt.premise),
        }
    }

    fn write(self, input: &Input<'_>, hand: Hand) -> Scene {
        let action = self.action(input);
        let table = self.table(input);
        let mut world = self.world.clone();
        plan::advance(&mut world, &action, &table);
        let plan = Plan::make(&world, &action, &table);
        let writer = self.writer(input, &action);
        let (prose, told) = match hand {
            Hand::Whole => writer.scene(&mut world, &plan),
            Hand::TakenUp => writer.continuation(&mut world, &plan),
        };
        plan::settle(&mut world, &plan, &table, told);
        let choices = plan
            .offers(self.pack)
            .iter()
            .map(|offer| Choice {
                label: writer.line(&world, &offer.label, None),
                hint: writer.line(&world, &offer.hint, None),
            })
            .collect();
        Scene { prose, choices, patch: world.patch(input.state, self.pack) }
    }
}
