//! Word wrap for text that arrives in pieces. Pure; the words it holds back are at most one.

/// Wraps a stream of text at a width in terminal columns, or passes it through untouched.
#[derive(Debug)]
pub struct Wrapper {
    width: Option<usize>,
    /// Columns in use on the current line.
    column: usize,
    /// Blanks seen since the last word; dropped where the line breaks.
    blanks: String,
    word: String,
}

impl Wrapper {
    /// `None` does not wrap: what goes in comes out at once, letter for letter.
    pub fn new(width: Option<usize>) -> Self {
        let width = width.map(|width| width.max(1));
        Self { width, column: 0, blanks: String::new(), word: String::new() }
    }

    /// Columns in use on the current line.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Takes the next piece and returns what can be printed by now.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len() + 8);
        let Some(width) = self.width else {
            for char in piece.chars() {
                self.column = if char == '\n' { 0 } else { self.column + columns(char) };
            }
            out.push_str(piece);
            return out;
        };
        for char in piece.chars() {
            match char {
                '\n' => {
                    self.end_word(width, &mut out);
                    self.blanks.clear();
                    out.push('\n');
                    self.column = 0;
                }
                '\u{a0}' => self.word.push(char),
                _ if char.is_whitespace() => {
                    self.end_word(width, &mut out);
                    self.blanks.push(' ');
                }
                // Scripts of wide characters have no blanks: a line may break around each.
                _ if columns(char) == 2 => {
                    self.end_word(width, &mut out);
                    self.word.push(char);
                    self.end_word(width, &mut out);
                }
                _ => self.word.push(char),
            }
        }
        out
    }

    /// Returns what was held back. The line goes on.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        if let Some(width) = self.width {
            self.end_word(width, &mut out);
            self.blanks.clear();
        }
        out
    }

    fn end_word(&mut self, width: usize, out: &mut String) {
        if self.word.is_empty() {
            return;
        }
        let word: usize = self.word.chars().map(columns).sum();
        if self.column > 0 && self.column + self.blanks.len() + word > width {
            out.push('\n');
            self.column = 0;
        } else if self.blanks.len() < width {
            out.push_str(&self.blanks);
            self.column += self.blanks.len();
        }
        self.blanks.clear();
        for char in self.word.drain(..) {
            let columns = columns(char);
            if self.column + columns > width && self.column > 0 {
                out.push('\n');
                self.column = 0;
            }
            out.push(char);
            self.column += columns;
        }
    }
}

/// Wraps a whole text with every line after the first indented by `indent` columns.
pub fn hang(text: &str, indent: usize, width: Option<usize>) -> String {
    let mut wrapper = Wrapper::new(width.map(|width| width.saturating_sub(indent).max(16)));
    let wrapped = wrapper.push(text) + &wrapper.finish();
    wrapped.replace('\n', &format!("\n{:indent$}", ""))
}

/// Columns a terminal uses for `char`: 0 for marks that combine, 2 for East Asian wide characters and emoji.
pub const fn columns(char: char) -> usize {
    match char as u32 {
        0..=0x1f | 0x7f..=0x9f => 0,
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrap(width: usize, pieces: &[&str]) -> String {
        let mut wrapper = Wrapper::new(Some(width));
        let mut out: String = pieces.iter().map(|piece| wrapper.push(piece)).collect();
        out.push_str(&wrapper.finish());
        out
    }

    #[test]
    fn lines_break_between_words() {
        let cases: [(&str, &[&str], &str); 7] = [
            ("fits", &["ab cd"], "ab cd"),
            ("breaks at the blank", &["abcd efgh ij"], "abcd\nefgh\nij"),
            ("a word that comes in pieces", &["ab c", "d", "efg"], "ab\ncdefg"),
            ("paragraphs stay", &["ab\n\ncd"], "ab\n\ncd"),
            ("a long word is cut", &["abcdefghij"], "abcdef\nghij"),
            ("wide characters", &["罗马不倒"], "罗马不\n倒"),
            (
                "combining marks use no column",
                &["e\u{301}e\u{301}e\u{301} abc"],
                "e\u{301}e\u{301}e\u{301}\nabc",
            ),
        ];
        for (name, pieces, wrapped) in cases {
            assert_eq!(wrap(6, pieces), wrapped, "{name}");
        }
    }

    #[test]
    fn without_a_width_every_letter_passes_at_once() {
        let mut wrapper = Wrapper::new(None);
        assert_eq!(wrapper.push("  a  wor"), "  a  wor");
        assert_eq!(wrapper.push("d\n b"), "d\n b");
        assert_eq!((wrapper.column(), wrapper.finish().as_str()), (2, ""));
    }

    #[test]
    fn hanging_lines_are_indented() {
        assert_eq!(hang("aaaaaaaa bbbbbbbb cc", 4, Some(20)), "aaaaaaaa\n    bbbbbbbb cc");
    }

    proptest! {
        #[test]
        fn no_letter_is_lost_and_no_line_too_long(
            text in "[ a-z\n罗é]{0,120}", width in 2usize..20, cut in 0usize..120,
        ) {
            let at = text.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(text.len());
            let (head, tail) = text.split_at(at);
            let wrapped = wrap(width, &[head, tail]);
            prop_assert_eq!(&wrapped, &wrap(width, &[&text]), "the pieces must not matter");
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&wrapped), letters(&text));
            for line in wrapped.lines() {
                prop_assert!(line.chars().map(columns).sum::<usize>() <= width, "{}", line);
            }
        }
    }
}
