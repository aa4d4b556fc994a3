//! The joint between text that readers have seen and its continuation by another call or another model.
//!
//! Models asked to go on after the last character repeat the last words, start the broken sentence anew or lose the space
//! between. A turn puts every continuation through an [`OverlapTrimmer`] before it parses it; nothing else uses this.

use std::borrow::Cow;

/// Longest repetition that is recognised, in characters; also bounds what is held back.
pub const MAX_OVERLAP_CHARS: usize = 400;

/// A repetition that starts within a word counts only from this length on: shorter ones happen by chance
/// (`hol` + `low`).
const MIN_CHARS_WITHIN_WORD: usize = 8;

/// Most bytes held back; only a flood of white space, which is compared as one, comes so far.
const MAX_HELD_BYTES: usize = 8 * MAX_OVERLAP_CHARS;

/// Drops from the start of a continuation what repeats the end of the text before it.
///
/// Repetitions are found across differences in letter case, white space and the style of quotes. Text is held back only
/// while a longer repetition is possible.
#[derive(Debug)]
pub struct OverlapTrimmer(Option<Search>);

#[derive(Debug)]
struct Search {
    /// The end of the text shown, folded.
    tail: Vec<char>,
    joint: Joint,
    /// Continuation so far.
    held: String,
    /// Bytes of `held` compared so far.
    compared: usize,
    /// Folded characters compared so far.
    folded: usize,
    after_space: bool,
    /// The continuation starts with white space.
    spaced: bool,
    /// A white space has been compared, so that there is more than one word.
    words: bool,
    /// Starts in `tail` from where it agrees with the whole continuation so far.
    live: Vec<usize>,
    /// End in `held` of the longest repetition found.
    best: Option<usize>,
}

/// What the end of the text shown says about the space after it.
#[derive(Debug, Clone, Copy)]
struct Joint {
    before_last: Option<char>,
    last: char,
    /// An uneven number of straight quotes stands in the last paragraph, so the last one opens.
    quote_open: bool,
}

impl OverlapTrimmer {
    /// `shown` is the text before the continuation, or at least its last [`MAX_OVERLAP_CHARS`] characters.
    pub fn new(shown: &str) -> Self {
        let Some(last) = shown.chars().next_back() else { return Self(None) };
        let from = shown.char_indices().rev().nth(MAX_OVERLAP_CHARS - 1).map_or(0, |(at, _)| at);
        let mut tail = Vec::with_capacity(MAX_OVERLAP_CHARS);
        for c in shown[from..].chars() {
            if !(c.is_whitespace() && tail.last() == Some(&' ')) {
                tail.push(fold(c));
            }
        }
        let whole = from == 0;
        let live = (0..tail.len())
            .filter(|&start| {
                tail[start] != ' '
                    && (tail.len() - start >= MIN_CHARS_WITHIN_WORD
                        || tail[start..].iter().all(|c| !c.is_alphanumeric())
                        || if start == 0 { whole } else { !tail[start - 1].is_alphanumeric() })
            })
            .collect();
        let paragraph = shown.rsplit('\n').next().unwrap_or(shown);
        Self(Some(Search {
            tail,
            joint: Joint {
                before_last: shown.chars().rev().nth(1),
                last,
                quote_open: paragraph.matches('"').count() % 2 == 1,
            },
            held: String::new(),
            compared: 0,
            folded: 0,
            after_space: false,
            spaced: false,
            words: false,
            live,
            best: None,
        }))
    }

    /// Takes the next chunk of the continuation; returns what of it (and of what was held back) is to be used, maybe nothing.
    pub fn push<'a>(&mut self, chunk: &'a str) -> Cow<'a, str> {
        let Some(search) = &mut self.0 else { return Cow::Borrowed(chunk) };
        search.held.push_str(chunk);
        search.compare();
        let searched = search.live.is_empty() && !search.held.trim_start().is_empty();
        if searched || search.held.len() > MAX_HELD_BYTES {
            Cow::Owned(self.finish())
        } else {
            Cow::Borrowed("")
        }
    }

    /// The continuation has ended (or no more is wanted to be held): returns what was held back.
    pub fn finish(&mut self) -> String {
        self.0.take().map(Search::rest).unwrap_or_default()
    }
}

impl Search {
    fn compare(&mut self) {
        while !self.live.is_empty()
            && let Some(c) = self.held[self.compared..].chars().next()
        {
            self.compared += c.len_utf8();
            if c.is_whitespace() {
                if self.folded == 0 {
                    self.spaced = true;
                    continue;
                }
                if self.after_space {
                    continue;
                }
                self.words = true;
            }
            self.after_space = c.is_whitespace();
            let c = fold(c);
            let (tail, at) = (&self.tail, self.folded);
            let mut whole = false;
            self.live.retain(|&start| {
                let agrees = tail[start + at] == c;
                let ends = start + at + 1 == tail.len();
                whole |= agrees && ends;
                agrees && !ends
            });
            // ` had` after `had` is a new word, not a repetition of the old.
            if whole && (self.words || !self.spaced) {
                self.best = Some(self.compared);
            }
            self.folded += 1;
        }
    }

    fn rest(mut self) -> String {
        if let Some(end) = self.best {
            return self.held.split_off(end);
        }
        if self.joint.last.is_whitespace() {
            self.held.drain(..self.held.len() - self.held.trim_start().len());
        } else if self.held.chars().next().is_some_and(|first| self.joint.lacks_space(first)) {
            self.held.insert(0, ' ');
        }
        self.held
    }
}

impl Joint {
    /// Whether a space is missing before `first`. In doubt it is not: `wor` + `ld`.
    fn lacks_space(self, first: char) -> bool {
        if is_unspaced(first) {
            return false;
        }
        let opens = matches!(first, '"' | '“' | '«' | '(' | '[' | '—');
        if !first.is_alphanumeric() && !opens {
            return false;
        }
        let after_digit = self.before_last.is_some_and(char::is_numeric);
        match self.last {
            '.' | ',' | ':' if after_digit && first.is_numeric() => false,
            '.' | ',' | ':' | ';' | '!' | '?' | '…' | ')' | ']' | '”' | '»' => true,
            '"' => !self.quote_open,
            last if last.is_lowercase() => first.is_uppercase() || first.is_numeric(),
            _ => false,
        }
    }
}

/// Scripts that are written without spaces between words: kana, ideographs, their full-width forms, Thai.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0e7f}' | '\u{3000}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffef}' | '\u{20000}'..='\u{3ffff}')
}

/// One character for all that a repetition may vary.
fn fold(c: char) -> char {
    match c {
        c if c.is_whitespace() => ' ',
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        c => c.to_lowercase().next().unwrap_or(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn continued(shown: &str, chunks: impl IntoIterator<Item = impl AsRef<str>>) -> String {
        let mut trimmer = OverlapTrimmer::new(shown);
        let mut rest = String::new();
        for chunk in chunks {
            rest.push_str(&trimmer.push(chunk.as_ref()));
        }
        rest.push_str(&trimmer.finish());
        rest
    }

    #[test]
    fn joints_are_clean() {
        for (name, shown, continuation, rest) in [
            ("within a word", "the wor", "ld fell", "ld fell"),
            ("nothing shown", "", " The gate", " The gate"),
            ("a new word with its space", "the world", " fell", " fell"),
            ("the broken word again", "saw the wor", "world fell", "ld fell"),
            ("the last words again", "He saw the wor", "the world fell", "ld fell"),
            ("the last words again, spaced", "He saw the wor", " the world fell", "ld fell"),
            ("the sentence again", "Night. He saw the wor", "He saw the world fell", "ld fell"),
            (
                "the sentence again, other case and quotes",
                "“It’s gone,” he",
                "\"it's gone,\" he said",
                " said",
            ),
            (
                "the sentence again, other white space",
                "He  saw\nthe wor",
                "\n\nHe saw the  world",
                "ld",
            ),
            ("nothing but a repetition", "He saw the world.", "the world.", ""),
            ("letters that agree by chance", "the hol", "low crown", "low crown"),
            ("a doubled word on purpose", "All he had", " had gone", " had gone"),
            ("a repetition that breaks off", "saw the world", "the worm turned", "the worm turned"),
            ("the longest repetition counts", "la la la", "la la la land", " land"),
            ("another sentence, space lost", "He left.", "Then rain", " Then rain"),
            ("another sentence, new paragraph", "He left.", "\n\nThen rain", "\n\nThen rain"),
            ("space on both sides", "He left. ", " Then", "Then"),
            ("nothing but space before", " ", "  Then", "Then"),
            ("a comma, space lost", "However,", "he left", " he left"),
            ("a number goes on", "It cost 3.", "14 denarii", "14 denarii"),
            ("a name after a word, space lost", "they reached", "Rome at dawn", " Rome at dawn"),
            ("a contraction", "he didn’", "t know", "t know"),
            ("behind a quote that opens", "She said: \"", "Run", "Run"),
            ("behind a quote that closes", "\"Run\"", "she said", " she said"),
            ("no spaces in this script", "他走了。", "然后下雨", "然后下雨"),
            (
                "the last sentence again, no spaces",
                "雨停了。他走进那座古老的城",
                "他走进那座古老的城门",
                "门",
            ),
            ("the marker", "He left.", "<<<CHOICES>>>", "<<<CHOICES>>>"),
            ("the marker on its line", "He left.", "\n<<<CHOICES>>>", "\n<<<CHOICES>>>"),
        ] {
            assert_eq!(continued(shown, [continuation]), rest, "{name}");
            let single: Vec<String> = continuation.chars().map(String::from).collect();
            assert_eq!(continued(shown, single), rest, "{name}, by the character");
        }
    }

    #[test]
    fn text_is_held_only_while_a_repetition_is_possible() {
        let mut trimmer = OverlapTrimmer::new("He saw the world");
        assert_eq!(trimmer.push("the wor"), "");
        assert_eq!(trimmer.push("m"), "the worm");
        let chunk = " turned";
        assert!(matches!(trimmer.push(chunk), Cow::Borrowed(" turned")));

        let mut trimmer = OverlapTrimmer::new("He saw");
        assert!((0..10_000).any(|_| !trimmer.push("\n").is_empty()), "held without a bound");

        let shown = "ab ".repeat(1_000);
        let mut trimmer = OverlapTrimmer::new(&shown);
        let mut pushed = 0;
        while trimmer.push("ab ").is_empty() {
            pushed += 3;
            assert!(pushed <= MAX_OVERLAP_CHARS, "held without a bound");
        }
    }

    proptest! {
        #[test]
        fn a_repetition_from_a_word_on_leaves_no_trace(
            before in "([a-z]{1,6}[ ,.] ?){0,30}",
            again in "[A-Z][a-z]{2,8}( [a-z]{1,8}){1,20}",
            next in "[a-z]{1,5}( [a-z]{1,8}){0,5}",
            cut in 1_usize..60,
        ) {
            let shown = format!("{before}{again}");
            let rest = continued(&shown, [format!("{again}{next}").as_str()]);
            prop_assert_eq!(&rest, &next);
            // However the chunks are cut.
            let continuation = format!("{again}{next}");
            let (head, tail) = continuation.split_at(cut.min(continuation.len()));
            prop_assert_eq!(continued(&shown, [head, tail]), rest);
        }

        #[test]
        fn chunking_changes_nothing(
            shown in "[ab \"’.]{0,30}",
            continuation in "[abB \n\"'.]{0,40}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        ) {
            let whole = continued(&shown, [&continuation]);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(continuation.len() + 1)).collect();
            at.extend([0, continuation.len()]);
            at.sort_unstable();
            let chunks: Vec<&str> = at.windows(2).map(|pair| &continuation[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&continued(&shown, &chunks), &whole);
            // Nothing is invented but one space, nothing is lost but a start.
            prop_assert!(continuation.ends_with(whole.strip_prefix(' ').unwrap_or(&whole)));
        }
    }
}
