//! The scene that the mock upstream writes and every client checks: what the words are, and whether they all came.
//!
//! A scene is prose in fixed-width words, then the turn format's choices and state. Nine words of ten are the word's own
//! number (` a01k`, five bytes, base 36); every tenth is the time at which it was sent (` t001234567`, microseconds of
//! the run's clock). So a lost, doubled or swapped word is found at once, and latency needs no second channel.

use std::fmt::Write;

/// Every so many words one carries its time of sending.
pub const STAMP_EVERY: u32 = 10;
/// Longest prose: what three digits in base 36 can number.
pub const MAX_TOKENS: u32 = 36 * 36 * 36;
const STAMP_LEN: usize = 10;
const WORD_LEN: usize = 4;

/// What follows the prose, in the turn format.
pub const TRAILER: &str = "\n<<<CHOICES>>>\n1. Hold the line | costs trust\n2. Sue for peace | costs pride\n<<<STATE>>>\n{\"trust\":1}\n";

pub fn is_stamp(index: u32) -> bool {
    index.is_multiple_of(STAMP_EVERY)
}

/// The word with this number, without the space before it.
pub fn word(index: u32) -> [u8; WORD_LEN] {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let digit = |power: u32| DIGITS[(index / 36u32.pow(power) % 36) as usize];
    [b'a', digit(2), digit(1), digit(0)]
}

/// Appends the word that says when it was sent, without the space before it.
pub fn write_stamp(out: &mut String, micros: u64) {
    // Writing to a String cannot fail.
    let _ = write!(out, "t{:09}", micros % 1_000_000_000);
}

#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    #[error("word {index} should be `{expected}` but is `{found}`")]
    Word { index: u32, expected: String, found: String },
    #[error("text after the scene's last word: `{0}`")]
    Surplus(String),
    #[error("the scene ended after {found} of {expected} words")]
    Short { expected: u32, found: u32 },
}

/// Checks one scene as it arrives, in pieces cut anywhere.
pub struct Verifier {
    expected: u32,
    next: u32,
    partial: Vec<u8>,
    /// What came after the last word; stays empty where a relay parses the turn format.
    rest: String,
}

impl Verifier {
    pub fn new(expected: u32) -> Self {
        Self { expected, next: 0, partial: Vec::with_capacity(STAMP_LEN), rest: String::new() }
    }

    /// Words seen so far.
    pub fn words(&self) -> u32 {
        self.next
    }

    /// Takes the next piece; `on_stamp` gets the time of sending of each stamped word it completes.
    ///
    /// # Errors
    /// The first word that is not the one due.
    pub fn push(&mut self, text: &str, mut on_stamp: impl FnMut(u64)) -> Result<(), Flaw> {
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            if self.next == self.expected {
                self.rest.push_str(text.get(at..).unwrap_or_default());
                return Ok(());
            }
            if self.partial.is_empty() && byte.is_ascii_whitespace() {
                continue;
            }
            self.partial.push(byte);
            let stamped = is_stamp(self.next);
            if self.partial.len() < if stamped { STAMP_LEN } else { WORD_LEN } {
                continue;
            }
            if stamped {
                on_stamp(self.stamp()?);
            } else if self.partial != word(self.next) {
                return Err(self.wrong(String::from_utf8_lossy(&word(self.next)).into_owned()));
            }
            self.partial.clear();
            self.next += 1;
        }
        Ok(())
    }

    /// # Errors
    /// If words are missing, or something stands after them that is not `trailer`.
    pub fn finish(&self, trailer: &str) -> Result<(), Flaw> {
        if self.next != self.expected {
            return Err(Flaw::Short { expected: self.expected, found: self.next });
        }
        if self.rest.trim() != trailer.trim() {
            return Err(Flaw::Surplus(self.rest.clone()));
        }
        Ok(())
    }

    fn stamp(&self) -> Result<u64, Flaw> {
        let text = str::from_utf8(&self.partial).ok();
        text.and_then(|text| text.strip_prefix('t'))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| self.wrong("a time of sending".into()))
    }

    fn wrong(&self, expected: String) -> Flaw {
        Flaw::Word {
            index: self.next,
            expected,
            found: String::from_utf8_lossy(&self.partial).into_owned(),
        }
    }
}

/// A bench binary runs no `#[test]`; the harness calls this before it measures anything, so that a checker that
/// accepts everything cannot pass unnoticed.
///
/// # Errors
/// Says which case went wrong.
pub fn self_check() -> anyhow::Result<()> {
    let mut words = Vec::new();
    for index in 0..40 {
        let mut text = String::from(" ");
        if is_stamp(index) {
            write_stamp(&mut text, u64::from(index));
        } else {
            text.push_str(&String::from_utf8_lossy(&word(index)));
        }
        words.push(text);
    }
    let passes = |text: &str, trailer: &str, step: usize| {
        let mut verifier = Verifier::new(40);
        let pieces = text.as_bytes().chunks(step).map(|piece| str::from_utf8(piece).unwrap_or("?"));
        let read = pieces.into_iter().try_for_each(|piece| verifier.push(piece, |_| ()));
        read.and_then(|()| verifier.finish(trailer)).is_ok()
    };
    let whole = words.concat();
    let without = |gone: usize| {
        words
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != gone)
            .map(|(_, w)| w.as_str())
            .collect::<String>()
    };
    let doubled = words
        .iter()
        .enumerate()
        .map(|(at, w)| if at == 7 { w.repeat(2) } else { w.clone() })
        .collect::<String>();
    let cases = [
        ("whole", passes(&whole, "", 1000), true),
        ("byte by byte", passes(&whole, "", 1), true),
        ("with its trailer", passes(&format!("{whole}{TRAILER}"), TRAILER, 7), true),
        ("trailer shown as text", passes(&format!("{whole}{TRAILER}"), "", 7), false),
        ("word lost", passes(&without(13), "", 6), false),
        ("stamp lost", passes(&without(20), "", 6), false),
        ("last word lost", passes(&without(39), "", 6), false),
        ("word doubled", passes(&doubled, "", 6), false),
    ];
    for (name, got, wanted) in cases {
        anyhow::ensure!(got == wanted, "scene checker, case `{name}`: accepted={got}");
    }
    Ok(())
}
