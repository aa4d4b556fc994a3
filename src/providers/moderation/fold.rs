//! How the word list reads a text: as words, without what only looks different.
//!
//! Case, diacritics and compatibility forms (full width, circled, mathematical letters) do not matter; marks that show
//! nothing are left out. A word may have several readings: letters written as digits and signs, letters of
//! another alphabet that look the same, letters that are drawn out. Words that are spaced out letter by letter are put
//! together.

use unicode_normalization::UnicodeNormalization;

/// Begins a reading in which letters that follow themselves stand once; no word has it.
const SQUEEZED: char = '\u{1}';
/// So many letters in a row are spaced out, fewer are words or initials.
const MIN_SPACED: usize = 3;
const SIGNS: &str = "@$!|+";

/// A word of a text and all that it may be read as.
#[derive(Debug, Default)]
pub(super) struct Word {
    pub readings: Vec<String>,
    /// It was written letter by letter, so that borders of words in it are lost.
    pub spaced: bool,
}

impl Word {
    pub fn reads(&self, word: &Listed) -> bool {
        self.readings.iter().any(|reading| *reading == word.plain || *reading == word.squeezed)
    }
}

/// A word of the list.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub plain: String,
    pub squeezed: String,
}

/// The words of an entry of the list.
pub(super) fn listed(entry: &str) -> Vec<Listed> {
    let words = split(entry, false).into_iter().map(|raw| raw.text);
    words.map(|plain| Listed { squeezed: squeeze(&plain), plain }).collect()
}

/// The words of a text; with `signs` they may hold signs that stand for letters.
pub(super) fn words(text: &str, signs: bool) -> Vec<Word> {
    let raws = split(text, signs);
    let mut words = Vec::with_capacity(raws.len());
    let mut rest = &raws[..];
    while let Some(first) = rest.first() {
        let run = match first.is_letter {
            true => 1 + rest[1..].iter().take_while(|raw| raw.is_letter && raw.near).count(),
            false => 1,
        };
        if run < MIN_SPACED {
            words.extend(
                rest[..run].iter().map(|raw| Word { readings: readings(&raw.text), spaced: false }),
            );
        } else {
            let joined: String = rest[..run].iter().map(|raw| raw.text.as_str()).collect();
            let mut spaced = Word { readings: readings(&joined), spaced: true };
            // A word of one letter may stand before it.
            if let Some(rest) = joined.strip_prefix(['a', 'i']) {
                spaced.readings.extend(readings(rest));
            }
            words.push(spaced);
        }
        rest = &rest[run..];
    }
    words
}

/// Whether the text may hold signs or digits for letters.
pub(super) fn has_signs(text: &str) -> bool {
    text.contains(|c: char| SIGNS.contains(c) || c.is_numeric())
}

/// Letters of scripts that are written without spaces between words.
pub(super) fn is_unspaced(c: char) -> bool {
    matches!(c,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// All letters and digits in a row.
pub(super) fn run_together(text: &str) -> String {
    fold(text).filter(|c| c.is_alphanumeric()).collect()
}

/// A word as it stands.
struct Raw {
    text: String,
    is_letter: bool,
    /// Little stands between it and the one before.
    near: bool,
}

fn split(text: &str, signs: bool) -> Vec<Raw> {
    let mut words: Vec<Raw> = Vec::new();
    let mut word = String::new();
    let (mut spaces, mut near) = (0, true);
    let mut close = |word: &mut String, near: bool| {
        // An exclamation mark after a word is one.
        let text = word.trim_end_matches(['!', '|', '+']).trim_start_matches(['!', '|', '+']);
        if text.chars().any(char::is_alphanumeric) || (signs && word.chars().count() == 1) {
            let text = if text.is_empty() { word.as_str() } else { text };
            let is_letter = text.chars().nth(1).is_none();
            words.push(Raw { text: text.to_owned(), is_letter, near });
        }
        word.clear();
    };
    for c in fold(text) {
        if c.is_alphanumeric() || (signs && SIGNS.contains(c)) {
            if word.is_empty() {
                near = spaces < 2;
            }
            word.push(c);
            spaces = 0;
        } else {
            close(&mut word, near);
            spaces += if c == '\n' { 2 } else { usize::from(c.is_whitespace()) };
        }
    }
    close(&mut word, near);
    words
}

/// Small letters without marks.
fn fold(text: &str) -> impl Iterator<Item = char> {
    text.nfkd().flat_map(char::to_lowercase).filter(|c| !is_unseen(*c)).flat_map(|c| {
        let (first, second) = match c {
            'ø' => ('o', None),
            'ł' => ('l', None),
            'đ' | 'ð' => ('d', None),
            'ħ' => ('h', None),
            'ı' => ('i', None),
            'ß' => ('s', Some('s')),
            'æ' => ('a', Some('e')),
            'œ' => ('o', Some('e')),
            c => (c, None),
        };
        std::iter::once(first).chain(second)
    })
}

/// Diacritics, and characters that show nothing.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{591}'..='\u{5bd}' | '\u{5bf}'..='\u{5c7}'
        | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}' | '\u{180b}'..='\u{180f}' | '\u{1ab0}'..='\u{1aff}'
        | '\u{1dc0}'..='\u{1dff}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e0fff}')
}

fn readings(word: &str) -> Vec<String> {
    let mut readings = vec![word.to_owned()];
    if is_disguised(word) {
        readings.push(word.chars().map(|c| letter(c, 'i')).collect());
        if word.contains(['1', '|', '!']) {
            readings.push(word.chars().map(|c| letter(c, 'l')).collect());
        }
    }
    if word.chars().any(|c| c.is_ascii_alphabetic()) && !word.is_ascii() {
        let alike: Vec<String> =
            readings.iter().map(|reading| reading.chars().map(latin).collect()).collect();
        readings.extend(alike);
    }
    let drawn_out: Vec<String> = readings
        .iter()
        .filter(|reading| is_drawn_out(reading))
        .map(|reading| squeeze(reading))
        .collect();
    readings.extend(drawn_out);
    readings
}

/// Whether digits or signs of a word may stand for letters: there are others beside them, so that `A55` is a road.
fn is_disguised(word: &str) -> bool {
    let digits = word.chars().any(|c| c.is_numeric());
    let signs = word.chars().any(|c| SIGNS.contains(c));
    let solid = word.chars().filter(|c| !c.is_numeric()).count();
    (digits || signs) && solid >= 2 && word.chars().any(char::is_alphabetic)
}

/// The letter that a digit or sign stands for; `one` for those that look like a stroke.
fn letter(c: char, one: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' | '|' => one,
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' | '+' => 't',
        '8' => 'b',
        '9' => 'g',
        c => c,
    }
}

/// The Latin letter that a Cyrillic or Greek one looks like.
fn latin(c: char) -> char {
    match c {
        'а' | 'α' => 'a',
        'в' | 'β' => 'b',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'е' | 'ε' | 'є' => 'e',
        'һ' | 'н' => 'h',
        'і' | 'ι' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'м' | 'μ' => 'm',
        'п' | 'η' => 'n',
        'о' | 'ο' | 'σ' => 'o',
        'р' | 'ρ' => 'p',
        'г' => 'r',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' => 'u',
        'ν' => 'v',
        'ԝ' | 'ω' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        c => c,
    }
}

fn is_drawn_out(word: &str) -> bool {
    let (mut last, mut run) = (None, 0);
    word.chars().any(|c| {
        run = if last == Some(c) { run + 1 } else { 1 };
        last = Some(c);
        run == 3
    })
}

fn squeeze(word: &str) -> String {
    let mut squeezed = String::from(SQUEEZED);
    for c in word.chars() {
        if !squeezed.ends_with(c) {
            squeezed.push(c);
        }
    }
    squeezed
}
