//! What the vendors say: for every mark another scene, known beforehand to the letter.
//!
//! No word comes twice, in any scene, so a doubled or lost one is seen; and no letter comes twice in a word, since a piece
//! that repeats itself (`ba` + `bako`) cannot be told from a vendor that says the broken word again.

use serde_json::{Value, json};

const SENTENCES: usize = 8;
const WORDS: usize = 8;
const LETTERS: usize = 6;
/// Words of so many different letters: 26 × 25 × … × 21.
const ALL_WORDS: usize = 165_765_600;
/// Has no factor in common with that: it spreads neighbours and keeps them apart.
const SPREAD: usize = 99_999_989;

pub const CHOICES: [(&str, &str); 3] = [
    ("Open the granaries", "the priests will not forgive it"),
    ("March on the harbour", "half the guard may not return"),
    ("Send for the envoy", "it will be known by morning"),
];
pub const PATCH: &str = r#"{"grain_days":9,"guard":"half"}"#;

/// How a request is told to be for this scene.
pub fn mark(number: usize) -> String {
    format!("mark-{number:05}")
}

/// The newest mark in what a vendor is sent.
pub fn find_mark(task: &str) -> usize {
    let at = task.rfind("mark-").expect("a task has a mark");
    task[at + 5..at + 10].parse().expect("a number")
}

fn word(number: usize) -> String {
    let mut code = (number % ALL_WORDS) * SPREAD % ALL_WORDS;
    let mut letters: Vec<char> = ('a'..='z').collect();
    let mut word = String::new();
    for _ in 0..LETTERS {
        let radix = letters.len();
        word.push(letters.remove(code % radix));
        code /= radix;
    }
    word
}

pub fn prose(mark: usize) -> String {
    let first = mark * SENTENCES * WORDS;
    let sentence = |at: usize| {
        let words = (0..WORDS).map(|word_at| word(first + at * WORDS + word_at));
        let text = words.collect::<Vec<_>>().join(" ");
        format!("{}{}.", text[..1].to_uppercase(), &text[1..])
    };
    let half =
        |from: usize| (from..from + SENTENCES / 2).map(sentence).collect::<Vec<_>>().join(" ");
    format!("{}\n\n{}", half(0), half(SENTENCES / 2))
}

pub fn rest() -> String {
    let choices: String = CHOICES
        .iter()
        .enumerate()
        .map(|(at, (label, hint))| format!("{}. {label} | {hint}\n", at + 1))
        .collect();
    format!("<<<CHOICES>>>\n{choices}<<<STATE>>>\n{PATCH}\n")
}

/// How a vendor goes on after what readers have seen: right there, a few words earlier, or from the sentence's start.
pub fn go_on(prose: &str, shown: &str, vendor: usize) -> String {
    assert!(prose.starts_with(shown), "shown what was never said: {shown}");
    let words_back = || {
        let spaces = shown.char_indices().rev().filter(|(_, c)| c.is_whitespace());
        spaces.map(|(at, _)| at + 1).nth(2).unwrap_or(0)
    };
    let sentence_back = || {
        let before = shown.trim_end_matches('.');
        before
            .rfind('.')
            .map_or(0, |at| at + 1 + before[at + 1..].len() - before[at + 1..].trim_start().len())
    };
    let from = match vendor {
        0 => shown.len(),
        1 => words_back(),
        _ => sentence_back(),
    };
    format!("{}\n{}", &prose[from..], rest())
}

pub fn text_frame(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "delta": { "content": text } }] })
}

#[test]
fn its_words_are_all_different_and_so_are_their_letters() {
    let mut words = std::collections::HashSet::new();
    for mark in 0..400 {
        for word in prose(mark).to_lowercase().split(|c: char| !c.is_alphabetic()) {
            let letters: std::collections::HashSet<char> = word.chars().collect();
            assert_eq!(letters.len(), word.len(), "{word}");
            assert!(word.is_empty() || words.insert(word.to_owned()), "{word} comes twice");
        }
    }
    assert_eq!(find_mark(&format!("{} and {}", mark(3), mark(12))), 12);
    let prose = "One two. Three four five six";
    let from =
        |vendor, shown: &str| go_on(prose, shown, vendor).replace(&format!("\n{}", rest()), "");
    assert_eq!(from(0, "One two. Thr"), "ee four five six");
    assert_eq!(from(1, "One two. Three fo"), "two. Three four five six");
    assert_eq!(from(2, "One two. Three fo"), "Three four five six");
    assert_eq!(from(2, "One two."), prose);
}
