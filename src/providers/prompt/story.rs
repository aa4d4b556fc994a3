//! The story so far, for a language model: the scenes on the way here, within bounds.
//!
//! The newest scenes are told in full. What lies further back is told by the chapters' summaries where they have been made,
//! and else by the first sentence of each scene. Sizes are in estimated tokens ([`estimate_tokens`]).

use std::fmt::Write;

use super::{harmless, quoted};
use crate::domain::budget::estimate_tokens;
use crate::domain::recall::{recall, sentence_end};
use crate::providers::text::{Chapter, PastScene};

/// Most that the scenes come to which are sent in full.
const FULL_SCENES_TOKENS: u64 = 6_000;
/// Most that all earlier scenes come to together; the oldest are left out beyond it.
const STORY_TOKENS: u64 = 8_000;
/// Scenes are shortened in groups of this many, so that the start of the prompt changes only now and then.
const SHORTEN_STEP: usize = 4;
/// Longest first sentence kept of a shortened scene, in characters.
const SENTENCE_CHARS: usize = 240;
/// Most sentences of scenes that are not told in full which are recalled because they bear on the reader's action.
const RECALLED: usize = 6;

/// Appends the scenes on the way to the one asked for, oldest first.
pub(super) fn story(task: &mut String, path: &[PastScene], chapters: &[Chapter]) {
    let scenes: Vec<String> = path.iter().map(|scene| harmless(&scene.text)).collect();
    let full_from = full_from(&scenes);
    let mut lines: Vec<String> = Vec::with_capacity(scenes.len());
    let mut at = 0;
    while at < scenes.len() {
        let chapter = chapters
            .iter()
            .find(|chapter| chapter.scenes.start == at && chapter.scenes.end <= full_from);
        if let Some(chapter) = chapter {
            let summary = harmless(&chapter.summary);
            lines.push(format!(
                "[scenes {} to {}, in short] {summary}\n",
                at + 1,
                chapter.scenes.end
            ));
            at = chapter.scenes.end.max(at + 1);
            continue;
        }
        let text = match at < full_from {
            true => first_sentence(&scenes[at]),
            false => &scenes[at],
        };
        lines.push(format!("{}{text}\n", heading(at, &path[at])));
        at += 1;
    }
    let mut room = STORY_TOKENS;
    let kept = lines.iter().rev().take_while(|line| {
        let tokens = estimate_tokens(line);
        let fits = tokens <= room;
        room = room.saturating_sub(tokens);
        fits
    });
    // The parent is never left out.
    let kept = kept.count().max(1);
    if kept < lines.len() {
        task.push_str("(what came first is left out)\n");
    }
    for line in &lines[lines.len() - kept..] {
        task.push_str(line);
    }
}

/// Appends sentences of scenes that are not told in full which have to do with `cue`.
pub(super) fn recalled(task: &mut String, path: &[PastScene], cue: &str) {
    let scenes: Vec<String> = path.iter().map(|scene| harmless(&scene.text)).collect();
    let early: Vec<&str> = scenes[..full_from(&scenes)].iter().map(String::as_str).collect();
    let found = recall(&early, cue, RECALLED);
    if found.is_empty() {
        return;
    }
    task.push_str("\nTold earlier, word for word, and perhaps of use now:\n");
    for sentence in found {
        let _ = writeln!(task, "[scene {}] {}", sentence.scene + 1, sentence.text);
    }
}

fn heading(at: usize, past: &PastScene) -> String {
    match past.via.text() {
        Some(words) => format!("[scene {}, after the reader's {}]\n", at + 1, quoted(words)),
        None => format!("[scene {}]\n", at + 1),
    }
}

/// The first scene sent in full: a multiple of [`SHORTEN_STEP`], but at most the parent.
fn full_from(scenes: &[String]) -> usize {
    let mut room = FULL_SCENES_TOKENS;
    let fitting = scenes.iter().rev().take_while(|text| {
        let tokens = estimate_tokens(text);
        let fits = tokens <= room;
        room = room.saturating_sub(tokens);
        fits
    });
    let first = scenes.len() - fitting.count();
    first.next_multiple_of(SHORTEN_STEP).min(scenes.len().saturating_sub(1))
}

fn first_sentence(text: &str) -> &str {
    let limit = text.char_indices().nth(SENTENCE_CHARS).map_or(text.len(), |(at, _)| at);
    let text = &text[..limit];
    text[..sentence_end(text)].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scenario::Via;

    fn past(text: &str) -> PastScene {
        PastScene { via: Via::Say { text: "go".into() }, text: text.into() }
    }

    fn told_with(path: &[PastScene], chapters: &[Chapter]) -> String {
        let mut task = String::new();
        story(&mut task, path, chapters);
        task
    }

    fn told(path: &[PastScene]) -> String {
        told_with(path, &[])
    }

    fn scene() -> String {
        format!("First sentence here. {}", "More of it. ".repeat(200))
    }

    #[test]
    fn old_scenes_shrink_in_groups_and_the_parent_never() {
        let scene = scene();
        let sent = |scenes: usize| {
            let told = told(&vec![past(&scene); scenes]);
            (told.matches("First sentence").count(), told.matches(scene.as_str()).count())
        };
        // Nine scenes fit; the tenth makes room for itself and for the next three.
        assert_eq!([sent(9), sent(10), sent(13), sent(14)], [(9, 9), (10, 6), (13, 9), (14, 6)]);

        let parent = "x".repeat(30_000);
        let long = told(&[past("Old one. Gone."), past(&parent)]);
        assert!(long.contains(&parent) && long.contains("Old one.\n") && !long.contains("Gone"));

        let many = told(&vec![past("Short."); 5_000]);
        assert!(estimate_tokens(&many) < STORY_TOKENS + 50 && many.contains("is left out"));
    }

    #[test]
    fn chapters_stand_for_the_scenes_that_are_not_told_in_full() {
        let path = vec![past(&scene()); 20];
        let chapter = |scenes: std::ops::Range<usize>| Chapter {
            summary: format!("What happened in {scenes:?}. <<<STATE>>>"),
            scenes,
        };
        let told = told_with(&path, &[chapter(0..8), chapter(8..16)]);
        assert!(
            told.starts_with("[scenes 1 to 8, in short] What happened in 0..8. «STATE»\n[scene 9,"),
            "{told}"
        );
        assert!(!told.contains("8..16"), "those are told in full, or will be as one");
        assert_eq!(told.matches("First sentence").count(), 12);
    }

    #[test]
    fn what_bears_on_the_action_comes_back_word_for_word() {
        let mut path = vec![past(&scene()); 60];
        path[1] = past("It rained. Varro hid the bronze key under the third step. Nobody saw.");
        let mut task = String::new();
        recalled(&mut task, &path, "Where did he hide the bronze key?");
        assert!(
            task.ends_with("[scene 2] Varro hid the bronze key under the third step.\n"),
            "{task}"
        );
        let mut none = String::new();
        recalled(&mut none, &path[..3], "the bronze key");
        assert_eq!(none, "", "what is told in full need not be told twice");
    }
}
