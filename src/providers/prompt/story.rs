//! The story so far, for a language model: the scenes on the way here, within bounds.

use std::fmt::Write;

use super::{harmless, quoted};
use crate::providers::text::PastScene;

/// Most characters of earlier scenes that are sent in full; older ones are sent as their first sentence.
const FULL_SCENES_CHARS: usize = 24_000;
/// Most characters of all earlier scenes together; the oldest are left out beyond it.
const STORY_CHARS: usize = 32_000;
/// Scenes are shortened in groups of this many, so that the start of the prompt changes only now and then.
const SHORTEN_STEP: usize = 4;
/// Longest first sentence kept of a shortened scene, in characters.
const SENTENCE_CHARS: usize = 240;

/// Appends the scenes on the way to the one asked for, oldest first.
pub(super) fn story(task: &mut String, path: &[PastScene]) {
    let scenes: Vec<String> = path.iter().map(|scene| harmless(&scene.text)).collect();
    let full_from = full_from(&scenes);
    let mut lines: Vec<String> = Vec::with_capacity(scenes.len());
    for (at, (past, text)) in path.iter().zip(&scenes).enumerate() {
        let mut line = String::new();
        match past.via.text() {
            Some(words) => {
                let _ = writeln!(line, "[scene {}, after the reader's {}]", at + 1, quoted(words));
            }
            None => {
                let _ = writeln!(line, "[scene {}]", at + 1);
            }
        }
        line.push_str(if at < full_from { first_sentence(text) } else { text });
        line.push('\n');
        lines.push(line);
    }
    let mut room = STORY_CHARS;
    let kept = lines.iter().rev().take_while(|line| {
        let chars = line.chars().count();
        let fits = chars <= room;
        room = room.saturating_sub(chars);
        fits
    });
    // The parent is never left out.
    let kept = kept.count().max(1);
    if kept < lines.len() {
        let _ = writeln!(task, "(the first {} scenes are left out)", lines.len() - kept);
    }
    for line in &lines[lines.len() - kept..] {
        task.push_str(line);
    }
}

/// The first scene sent in full: a multiple of [`SHORTEN_STEP`], but at most the parent.
fn full_from(scenes: &[String]) -> usize {
    let mut room = FULL_SCENES_CHARS;
    let fitting = scenes.iter().rev().take_while(|text| {
        let chars = text.chars().count();
        let fits = chars <= room;
        room = room.saturating_sub(chars);
        fits
    });
    let first = scenes.len() - fitting.count();
    first.next_multiple_of(SHORTEN_STEP).min(scenes.len().saturating_sub(1))
}

fn first_sentence(text: &str) -> &str {
    let limit = text.char_indices().nth(SENTENCE_CHARS).map_or(text.len(), |(at, _)| at);
    let text = &text[..limit];
    let end = text.char_indices().find(|&(at, c)| {
        let behind = &text[at + c.len_utf8()..];
        match c {
            '.' | '!' | '?' | '…' => {
                behind.is_empty()
                    || behind
                        .starts_with(|next: char| next.is_whitespace() || "\"”»’)".contains(next))
            }
            '。' | '！' | '？' | '\n' => true,
            _ => false,
        }
    });
    end.map_or(text, |(at, c)| text[..at + c.len_utf8()].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scenario::Via;

    fn past(text: &str) -> PastScene {
        PastScene { via: Via::Say { text: "go".into() }, text: text.into() }
    }

    fn told(path: &[PastScene]) -> String {
        let mut task = String::new();
        story(&mut task, path);
        task
    }

    #[test]
    fn old_scenes_shrink_in_groups_and_the_parent_never() {
        let scene = format!("First sentence here. {}", "More of it. ".repeat(200));
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
        assert!(many.len() < STORY_CHARS + 100 && many.contains("scenes are left out"));
    }

    #[test]
    fn a_sentence_ends_where_a_reader_would_say() {
        for (text, sentence) in [
            ("It cost 3.5 denarii. Then rain.", "It cost 3.5 denarii."),
            ("“Run!” he said. Then rain.", "“Run!"),
            ("No end", "No end"),
            ("Title\nThen rain.", "Title"),
            ("雨停了。他走了。", "雨停了。"),
        ] {
            assert_eq!(first_sentence(text), sentence);
        }
        assert_eq!(first_sentence(&"é".repeat(900)).chars().count(), SENTENCE_CHARS);
    }
}
