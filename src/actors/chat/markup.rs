//! A model's words as plain text, while they come: no tags, nothing that Markdown takes for a link or an image, and only
//! citations of what there is.
//!
//! A page may have talked the model into an image whose address carries the reader's words to a stranger; clients that
//! render what they get would fetch it. A link needs `](` or `]:` and a tag needs a letter after `<`: neither ever comes
//! out, however the text is put together. Only what may be a tag or a citation is held back, until it is clear what it is.

use std::collections::BTreeSet;

/// Longest tag that is waited for, in bytes; beyond it is dropped up to there.
const MAX_TAG_BYTES: usize = 2_048;
/// Longest list of numbers between brackets.
const MAX_CITATION_BYTES: usize = 24;

/// Takes one model's text, chunk by chunk.
#[derive(Debug)]
pub struct PlainText {
    /// How many sources there are.
    sources: usize,
    held: String,
    /// The last character that came out was one.
    after_bracket: bool,
    pub cited: BTreeSet<usize>,
}

/// What the start of the held text is.
enum Start {
    /// Text of so many bytes, to be shown as it is.
    Plain(usize),
    /// So many bytes that stand for this text.
    Instead(usize, String),
    /// It may become anything.
    Open,
}

impl PlainText {
    pub fn new(sources: usize) -> Self {
        Self { sources, held: String::new(), after_bracket: false, cited: BTreeSet::new() }
    }

    /// What of the text so far may be shown now, maybe nothing.
    pub fn push(&mut self, chunk: &str) -> String {
        self.held.push_str(chunk);
        self.take(false)
    }

    /// The text is over: what was held back for nothing.
    pub fn finish(&mut self) -> String {
        self.take(true)
    }

    fn take(&mut self, over: bool) -> String {
        let held = std::mem::take(&mut self.held);
        let mut shown = String::with_capacity(held.len());
        let mut rest = held.as_str();
        while let Some(first) = rest.chars().next() {
            let used = match self.start(first, rest) {
                Start::Plain(bytes) => {
                    self.show(&rest[..bytes], &mut shown);
                    bytes
                }
                Start::Instead(bytes, text) => {
                    self.show(&text, &mut shown);
                    bytes
                }
                // Without its end it is none.
                Start::Open if over => {
                    self.show(if first == '<' { "" } else { &rest[..1] }, &mut shown);
                    1
                }
                Start::Open if rest.len() > MAX_TAG_BYTES => rest.len(),
                Start::Open => break,
            };
            rest = &rest[used..];
        }
        self.held.push_str(rest);
        shown
    }

    fn show(&mut self, text: &str, shown: &mut String) {
        for c in text.chars() {
            if self.after_bracket && matches!(c, '(' | ':') {
                shown.push(' ');
            }
            shown.push(c);
            self.after_bracket = c == ']';
        }
    }

    fn start(&mut self, first: char, text: &str) -> Start {
        match first {
            '<' => tag(text),
            '[' => self.citation(text),
            '*' if text.len() == 1 => Start::Open,
            '*' if text.starts_with("**") => Start::Instead(2, String::new()),
            _ => {
                let next = text[first.len_utf8()..].find(['<', '[', '*']);
                Start::Plain(next.map_or(text.len(), |at| first.len_utf8() + at))
            }
        }
    }

    /// `[1]` or `[1, 3]`, of which what there is not is left out.
    fn citation(&mut self, text: &str) -> Start {
        let inside = text[1..].find(|c: char| !c.is_ascii_digit() && c != ',' && c != ' ');
        let Some(close) = inside.map(|at| at + 1) else {
            let short = text.len() <= MAX_CITATION_BYTES;
            return if short { Start::Open } else { Start::Plain(1) };
        };
        let numbers = text[1..close].split(',').map(str::trim);
        let is_long = close >= MAX_CITATION_BYTES;
        if is_long || text.as_bytes()[close] != b']' || text[1..close].trim().is_empty() {
            return Start::Plain(1);
        }
        let known = |number: &str| {
            let number: usize = number.parse().ok()?;
            (1..=self.sources).contains(&number).then_some(number)
        };
        let known: Vec<usize> = numbers.filter_map(known).collect();
        self.cited.extend(&known);
        let known: Vec<String> = known.iter().map(usize::to_string).collect();
        let shown =
            if known.is_empty() { String::new() } else { format!("[{}]", known.join(", ")) };
        Start::Instead(close + 1, shown)
    }
}

/// What a browser would take for a tag.
fn tag(text: &str) -> Start {
    match text[1..].chars().next() {
        None => Start::Open,
        Some(c) if c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?') => {
            match text.find('>') {
                Some(end) => Start::Instead(end + 1, String::new()),
                None => Start::Open,
            }
        }
        // A comparison. What follows is sure to come out right after it.
        Some(c) if c.is_ascii_digit() || matches!(c, ' ' | '=' | '-') => Start::Plain(2),
        Some(_) => Start::Instead(1, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str, sources: usize) -> (String, Vec<usize>) {
        let mut plain = PlainText::new(sources);
        let mut shown = plain.push(text);
        shown.push_str(&plain.finish());
        (shown, plain.cited.into_iter().collect())
    }

    #[test]
    fn markup_goes_and_citations_stay() {
        for (text, want, cited) in [
            ("Plain. 3 < 4 and <5!", "Plain. 3 < 4 and <5!", &[][..]),
            ("So it was [1], and [3][2]!", "So it was [1], and [3][2]!", &[1, 2, 3]),
            ("Both [1, 3] and [2,9].", "Both [1, 3] and [2].", &[1, 2, 3]),
            ("Invented [7] and [0] and [99999999999999].", "Invented  and  and .", &[]),
            (
                "See [the page](https://evil.example).",
                "See [the page] (https://evil.example).",
                &[],
            ),
            ("![x](https://evil.example)", "![x] (https://evil.example)", &[]),
            ("[1](https://evil.example)", "[1] (https://evil.example)", &[1]),
            ("![x][e]\n\n[e]: https://evil.example", "![x][e]\n\n[e] : https://evil.example", &[]),
            ("[a]**(https://evil.example)", "[a] (https://evil.example)", &[]),
            ("<img src=x onerror=alert(1)>A <b>bold</b> word", "A bold word", &[]),
            ("<<b>img src=x>", "img src=x>", &[]),
            ("A **bold** claim * here*", "A bold claim * here*", &[]),
            ("[sic] he said [", "[sic] he said [", &[]),
            ("cut <a href=\"x\" [1", "cut a href=\"x\" [1", &[]),
        ] {
            assert_eq!(whole(text, 3), (want.to_owned(), cited.to_vec()), "{text}");
        }
    }

    #[test]
    fn what_is_clear_is_shown_at_once() {
        let mut plain = PlainText::new(1);
        assert_eq!(plain.push("The gate [fell"), "The gate [fell");
        assert_eq!(plain.push(" [1"), " ");
        assert_eq!(plain.push("], and"), "[1], and");
        assert_eq!(plain.push(" <"), " ");
        assert_eq!(plain.push("3"), "<3");
        assert_eq!(plain.push(&format!(" <a {}", "x".repeat(MAX_TAG_BYTES))), " ");
        assert_eq!(plain.held, "", "a tag without an end is not kept for ever");
    }

    proptest! {
        #[test]
        fn no_markup_comes_out_however_the_text_is_cut(
            pieces in proptest::collection::vec(r"[a-b\[\]()<>/!*:,1-3é\n ]{0,6}", 0..16),
        ) {
            let text = pieces.concat();
            let mut plain = PlainText::new(2);
            let mut shown = String::new();
            for piece in &pieces {
                shown.push_str(&plain.push(piece));
            }
            shown.push_str(&plain.finish());
            let (want, cited) = whole(&text, 2);
            prop_assert_eq!(&shown, &want);
            prop_assert_eq!(plain.cited.into_iter().collect::<Vec<_>>(), cited);
            prop_assert!(!shown.contains("](") && !shown.contains("]:"), "{} became {}", text, shown);
            let opens = shown.match_indices('<').any(|(at, _)| {
                shown[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c))
            });
            prop_assert!(!opens, "{} became {}", text, shown);
        }
    }
}
