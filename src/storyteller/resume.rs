//! Takes up a scene whose beginning readers have already seen, whoever wrote it.

use super::prompt::Prompt;
use super::template::Template;
use super::world::World;
use super::{Hand, Input, Scene, Telling, compose};

/// Most places of a shown text at which a change of hands is looked for.
const MAX_SEAMS: usize = 24;
/// A shorter sentence may recur.
const SENTENCE: usize = 12;

pub fn take_up(input: &Input<'_>, shown: &str) -> Scene {
    let own = compose(input);
    if let Some(rest) = own.prose.strip_prefix(shown) {
        return Scene { prose: rest.to_owned(), ..own };
    }
    let continuation = Telling::begin(input).write(input, Hand::TakenUp);
    // The storyteller itself may have been cut off while it was going on for another: then its own words, from the
    // seam on, are a beginning of what it would write there.
    for seam in seams(shown) {
        let whole = bridged(input, &shown[..seam], &continuation.prose);
        if let Some(rest) = whole.strip_prefix(&shown[seam..]) {
            return Scene { prose: rest.to_owned(), ..continuation };
        }
    }
    Scene { prose: bridged(input, shown, &continuation.prose), ..continuation }
}

/// Where an earlier continuation may have begun: at paragraph breaks and dashes, the last ones first.
fn seams(shown: &str) -> impl Iterator<Item = usize> {
    shown
        .char_indices()
        .rev()
        .filter(|(_, c)| matches!(c, '\n' | '—'))
        .map(|(at, _)| at)
        .filter(|at| *at > 0)
        .take(MAX_SEAMS)
}

/// What is to follow `shown`: its last sentence brought to an end, then the continuation's new sentences.
fn bridged(input: &Input<'_>, shown: &str, continuation: &str) -> String {
    let mut out = String::with_capacity(continuation.len() + 120);
    let end = shown.trim_end();
    if end.ends_with(['.', '!', '?', '…', '”', '"', ':', '。', '！', '？', '’', ')', '*'])
        || end.is_empty()
    {
        out.push_str(match &shown[end.len()..] {
            tail if tail.ends_with("\n\n") => "",
            tail if tail.ends_with('\n') => "\n",
            _ => "\n\n",
        });
    } else {
        out.push('—');
        if shown.matches('“').count() > shown.matches('”').count() {
            out.push('”');
        }
        out.push(' ');
        let broken = &super::content::content(input.language).common.broken;
        let line = &broken[super::Key::new(input.seed).with("broken").below(broken.len())];
        line_of(line, &mut out);
        out.push_str("\n\n");
    }
    let before = out.len();
    for paragraph in continuation.split("\n\n") {
        let start = out.len();
        for sentence in sentences(paragraph) {
            if sentence.len() >= SENTENCE && shown.contains(sentence.trim()) {
                continue;
            }
            out.push_str(sentence);
        }
        let kept = out.trim_end().len().max(start);
        out.truncate(kept);
        if out.len() > start {
            out.push_str("\n\n");
        }
    }
    let kept = out.trim_end().len();
    out.truncate(if kept < before { 0 } else { kept });
    out
}

/// These passages have no slots; the content's lint sees to it.
fn line_of(template: &Template, out: &mut String) {
    for piece in &template.pieces {
        if let super::template::Piece::Text(text) = piece {
            out.push_str(text);
        }
    }
}

/// Sentences with the space that follows each.
pub fn sentences(paragraph: &str) -> impl Iterator<Item = &str> {
    let mut rest = paragraph;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut ended = false;
        let end = rest.char_indices().find(|(_, c)| {
            let boundary = ended && c.is_whitespace();
            ended = matches!(c, '.' | '!' | '?' | '…') || (ended && matches!(c, '”' | '’' | ')'));
            boundary
        });
        let end = end.map_or(rest.len(), |(at, c)| at + c.len_utf8());
        let (sentence, after) = rest.split_at(end);
        rest = after;
        Some(sentence)
    })
}

/// Names in somebody else's text that choices can speak of: cast members first, then what is written with a capital
/// in the middle of a sentence, then the prompt's actor. Never empty.
pub fn subjects(text: &str, world: &World, prompt: &Prompt) -> Vec<String> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut add = |name: String, weight: usize| {
        if let Some((count, _)) = found.iter_mut().find(|(_, known)| *known == name) {
            *count += weight;
        } else if found.len() < 40 {
            found.push((weight, name));
        }
    };
    for member in &world.cast {
        if text.contains(member.short()) {
            add(member.name.to_string(), 3);
        }
    }
    let mut run: Vec<&str> = Vec::new();
    let mut starts = true;
    for token in text.split_whitespace() {
        let word = token.trim_matches(|c: char| !c.is_alphanumeric());
        let word = word.strip_suffix("’s").or_else(|| word.strip_suffix("'s")).unwrap_or(word);
        let name = word.chars().next().is_some_and(char::is_uppercase)
            && word.chars().count() > 1
            && word.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '’');
        if name && !starts {
            run.push(word);
        } else if !run.is_empty() {
            add(run.join(" "), 1);
            run.clear();
        }
        starts =
            token.ends_with(['.', '!', '?', '”', '"', ':', '…']) || token.starts_with(['“', '"']);
        if starts && !run.is_empty() {
            add(run.join(" "), 1);
            run.clear();
        }
    }
    found.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let mut names: Vec<String> = found
        .into_iter()
        .map(|(_, name)| name)
        .filter(|name| name.chars().count() <= 40)
        .take(3)
        .collect();
    if names.is_empty() {
        names.push(prompt.actor.clone());
    }
    names
}
