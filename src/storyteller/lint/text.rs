//! What every passage must be: sound text, slots that can be filled, sentences that agree whatever fills them, and no
//! sentence twice.

use std::collections::BTreeMap;

use super::Report;
use super::measure::words_wanted;
use crate::storyteller::content::walk::{Kind, Spot};
use crate::storyteller::resume::sentences;
use crate::storyteller::template::{Piece, Slot, Template, count_words};

/// A sentence of at most so many letters may stand in two packs, and one of fewer words anywhere.
const SHORT: usize = 24;
const SHORTEST: usize = 4;
/// Most characters of a label or a hint.
const MAX_LINE: usize = 110;

/// Where each sentence was met first.
#[derive(Default)]
pub struct Sentences(BTreeMap<String, String>);

/// Names that slots may have.
pub struct Known {
    pub roles: Vec<String>,
    pub words: Vec<String>,
    /// Lists in which a word has an article already.
    pub articled: Vec<String>,
}

impl Known {
    fn has(&self, name: &str) -> bool {
        let role = |key: &str| self.roles.iter().any(|role| role == key);
        role(name)
            || self.words.iter().any(|word| word == name)
            || name
                .rsplit_once('_')
                .is_some_and(|(key, case)| ["he", "him", "his"].contains(&case) && role(key))
    }
}

/// The text of an unresolved passage.
pub fn source(template: &Template) -> String {
    template
        .pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.to_string(),
            Piece::Slot { slot, article } => {
                let article = if *article { "a:" } else { "" };
                match slot {
                    Slot::Named(name) => format!("{{{article}{name}}}"),
                    slot => format!("{{{article}{slot:?}}}").to_lowercase(),
                }
            }
        })
        .collect()
}

/// `known` is left out where nobody can say what a slot may be called.
pub fn check(
    spot: Spot<'_>,
    template: &Template,
    known: Option<&Known>,
    language: &str,
    report: &mut Report<'_>,
    seen: &mut Sentences,
) {
    let text = source(template);
    let mut wrong = |what: String| report.add(spot.file, spot.item, what);
    if let Some(known) = known {
        for slot in template.slots() {
            match slot {
                Slot::Named(name) if !known.has(name) => wrong(format!("unknown slot {{{name}}}")),
                Slot::Said if spot.kind != Kind::Reply => {
                    wrong(format!("nothing was said here: “{text}”"));
                }
                Slot::Target(_) if spot.kind != Kind::Target => {
                    wrong(format!("nobody is named here: “{text}”"));
                }
                Slot::Subject if !matches!(spot.kind, Kind::Subject | Kind::Hint) => {
                    wrong(format!("there is no subject here: “{text}”"));
                }
                _ => {}
            }
        }
    }
    if spot.kind == Kind::Broken && template.slots().count() > 0 {
        wrong(format!("may have no slots: “{text}”"));
    }
    for mark in ["<<<", "\"", "'", "  ", "|", "\\"] {
        if text.contains(mark) {
            wrong(format!("{mark:?} in “{text}”"));
        }
    }
    if text.matches('“').count() != text.matches('”').count() {
        wrong(format!("quotes do not match: “{text}”"));
    }
    if matches!(spot.kind, Kind::Label | Kind::Hint | Kind::Subject) {
        if text.ends_with('.') {
            wrong(format!("ends in a full stop: “{text}”"));
        }
        if text.chars().count() > MAX_LINE {
            wrong(format!("longer than {MAX_LINE} characters: “{text}”"));
        }
    } else if !text.ends_with(['.', '!', '?', '”', '…']) {
        wrong(format!("does not end: “{text}”"));
    }
    if language == "en" {
        agreement(template, &text, &mut wrong);
        if let Some(known) = known {
            articles(template, known, &text, &mut wrong);
        }
    }
    if let Some((low, high)) = words_wanted(spot.kind) {
        let words = count_words(&text);
        if !(low..=high).contains(&words) {
            wrong(format!("{words} words, {low} to {high} wanted: “{}…”", start(&text)));
        }
    }
    if !matches!(spot.kind, Kind::Label | Kind::Hint | Kind::Subject) {
        let here = format!("{}/{}.toml: {}", report.place, spot.file, spot.item);
        for sentence in sentences(&text).map(str::trim) {
            let short = sentence.chars().filter(|c| c.is_alphabetic()).count() <= SHORT;
            if short && count_words(sentence) < SHORTEST {
                continue;
            }
            // Two packs never meet in a story, so that a short sentence may stand in both.
            let key =
                if short { format!("{}: {sentence}", report.place) } else { sentence.to_owned() };
            if let Some(first) = seen.0.insert(key, here.clone()) {
                report.add(spot.file, spot.item, format!("also in {first}: “{sentence}”"));
            }
        }
    }
}

pub fn start(text: &str) -> String {
    text.split(' ').take(6).collect::<Vec<_>>().join(" ")
}

/// The actor may be one or many, so no verb that shows number and no pronoun may follow it; articles before slots are
/// `{a:…}`; quotation marks of the outer kind hold the prompt's words.
fn agreement(template: &Template, text: &str, wrong: &mut impl FnMut(String)) {
    const NUMBERED: [&str; 8] = ["was", "were", "is", "are", "has", "have", "does", "do"];
    for pair in template.pieces.windows(2) {
        match pair {
            [Piece::Slot { slot: Slot::Actor | Slot::Premise, .. }, Piece::Text(after)] => {
                let next = after
                    .strip_prefix(' ')
                    .unwrap_or_default()
                    .split(|c: char| !c.is_alphabetic())
                    .next()
                    .unwrap_or_default();
                if NUMBERED.contains(&next) {
                    wrong(format!("“{next}” shows number after the slot: “{text}”"));
                }
            }
            [Piece::Text(before), Piece::Slot { .. }] => {
                let last = before.trim_end_matches(['“', '‘']);
                let last =
                    last.strip_suffix(' ').and_then(|last| last.rsplit([' ', '“', '—']).next());
                if last.is_some_and(|word| ["a", "an", "A", "An"].contains(&word)) {
                    wrong(format!("an article before a slot, {{a:…}} wanted: “{text}”"));
                }
            }
            _ => {}
        }
    }
}

/// No second article before what has one: "the {place}" would become "the the river gate".
fn articles(template: &Template, known: &Known, text: &str, wrong: &mut impl FnMut(String)) {
    let mut before = "";
    for piece in &template.pieces {
        match piece {
            Piece::Text(text) => before = text,
            Piece::Slot { slot, article } => {
                let doubled = *article || before.ends_with(" the ") || before == "The ";
                let has_one = match slot {
                    Slot::Actor => true,
                    Slot::Named(name) => known.articled.iter().any(|word| **word == **name),
                    _ => false,
                };
                if doubled && has_one {
                    wrong(format!("an article before what has one: “{text}”"));
                }
                before = "";
            }
        }
    }
}
