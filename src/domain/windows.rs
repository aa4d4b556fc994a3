//! Cuts a text that is still being written into windows that can be judged one by one.
//!
//! A window ends where a sentence does, and is judged together with the end of what came before it, so that nothing hides
//! on a border. Used by the turn's gate, and for texts that are too long to be judged in one piece.

/// How much of the text before a window is judged with it, at most.
pub const OVERLAP_CHARS: usize = 200;

/// A piece of text, and what it is to be read with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The end of the text before it, from the start of a word on.
    pub context: String,
    pub text: String,
}

impl Window {
    /// What is to be judged.
    pub fn whole(&self) -> String {
        format!("{}{}", self.context, self.text)
    }
}

/// Takes text as it comes; all windows' texts together are that text.
#[derive(Debug)]
pub struct Windows {
    /// About how long a window is, in characters; at most twice that.
    chars: usize,
    /// The first window is as short as it can be: readers wait for it.
    first: bool,
    context: String,
    open: String,
}

impl Windows {
    /// For a text that goes on after `before`.
    pub fn new(chars: usize, before: &str) -> Self {
        let context = tail(before).to_owned();
        Self { chars: chars.max(1), first: true, context, open: String::new() }
    }

    /// The first window is no shorter than the others: nobody waits for it alone.
    pub fn in_long_pieces(self) -> Self {
        Self { first: false, ..self }
    }

    pub fn push(&mut self, text: &str) {
        self.open.push_str(text);
    }

    /// The next window that is complete.
    pub fn pop(&mut self) -> Option<Window> {
        let border = self.border()?;
        Some(self.cut(border))
    }

    /// The rest, when nothing more comes for now.
    pub fn finish(&mut self) -> Option<Window> {
        (!self.open.is_empty()).then(|| self.cut(self.open.len()))
    }

    fn cut(&mut self, at: usize) -> Window {
        let rest = self.open.split_off(at);
        let text = std::mem::replace(&mut self.open, rest);
        self.first = false;
        let before = format!("{}{text}", self.context);
        let context = std::mem::replace(&mut self.context, tail(&before).to_owned());
        Window { context, text }
    }

    /// Where the open text can be cut: at the first end of a sentence that leaves enough before it. Text that has none for
    /// too long is cut at its last one before, or else between words, or else anywhere.
    fn border(&self) -> Option<usize> {
        let least = if self.first { 1 } else { self.chars };
        let (mut ended, mut last_end, mut last_space) = (Ended::No, None, None);
        for (chars, (at, c)) in self.open.char_indices().enumerate() {
            let ends = match ended {
                Ended::No => c == '\n' && at > 0,
                Ended::Perhaps => c.is_whitespace(),
                Ended::Yes => !is_closer(c),
            };
            if ends && chars >= least {
                return Some(at);
            }
            if ends {
                last_end = Some(at);
            }
            if c.is_whitespace() && at > 0 {
                last_space = Some(at);
            }
            if chars >= self.chars * 2 {
                return last_end.or(last_space).or(Some(at));
            }
            ended = match c {
                '.' | '!' | '?' | '…' => Ended::Perhaps,
                '。' | '！' | '？' | '؟' | '।' => Ended::Yes,
                c if is_closer(c) => ended,
                _ => Ended::No,
            };
        }
        None
    }
}

/// Whether a sentence has ended before a character.
#[derive(Clone, Copy)]
enum Ended {
    No,
    /// If white space follows: `3.14` goes on.
    Perhaps,
    /// Written without spaces between sentences.
    Yes,
}

fn is_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '»' | ')' | ']' | '」' | '』' | '）' | '*' | '_')
}

/// The end of a text from the start of a word on: half a word may read as another one.
fn tail(text: &str) -> &str {
    let Some((at, _)) = text.char_indices().rev().nth(OVERLAP_CHARS - 1) else { return text };
    if at == 0 {
        return text;
    }
    let tail = &text[at..];
    match tail.find(char::is_whitespace) {
        Some(space) => &tail[space..],
        None => tail,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn windows(chars: usize, text: &str) -> Vec<Window> {
        let mut windows = Windows::new(chars, "");
        let mut cut = Vec::new();
        for c in text.chars() {
            windows.push(c.encode_utf8(&mut [0; 4]));
            cut.extend(std::iter::from_fn(|| windows.pop()));
        }
        cut.extend(windows.finish());
        cut
    }

    fn texts(chars: usize, text: &str) -> Vec<String> {
        windows(chars, text).into_iter().map(|window| window.text).collect()
    }

    #[test]
    fn windows_end_with_sentences() {
        for (name, chars, text, want) in [
            (
                "first at once",
                30,
                "Hi. So it was. And so it went on for long. End",
                &["Hi.", " So it was. And so it went on for long.", " End"][..],
            ),
            ("quotes belong to it", 5, "“No!” she said.", &["“No!”", " she said."]),
            ("numbers go on", 5, "It was 3.14 or so. Then", &["It was", " 3.14 or", " so. Then"]),
            ("lines end", 5, "A title\nThe text", &["A title", "\nThe text"]),
            (
                "without spaces",
                5,
                "他走了。她说：「来。」他没来。",
                &["他走了。", "她说：「来。」", "他没来。"],
            ),
            ("no sentence", 6, "one two three four five", &["one two", " three four", " five"]),
            ("no word", 4, "abcdefghijklmnop", &["abcdefgh", "ijklmnop"]),
            ("nothing", 4, "", &[]),
        ] {
            assert_eq!(texts(chars, text), want, "{name}");
        }
    }

    #[test]
    fn a_window_is_read_with_whole_words_before_it() {
        let long = format!("{} assassin. Then came more.", "word ".repeat(60));
        let cut = windows(40, &long);
        let last = cut.last().expect("windows");
        assert!(last.context.starts_with(" word") && last.context.chars().count() <= OVERLAP_CHARS);
        assert!(last.whole().ends_with("assassin. Then came more."));
        let mut resumed = Windows::new(40, &long);
        resumed.push(" And on.");
        assert!(resumed.finish().is_some_and(|window| window.whole().ends_with("more. And on.")));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_window_is_too_long(text in "[a-z .!\n“é。𝄞]{0,400}", chars in 1usize..60) {
            let cut = windows(chars, &text);
            prop_assert_eq!(cut.iter().map(|window| window.text.as_str()).collect::<String>(), &*text);
            for window in &cut {
                prop_assert!((1..=chars * 2).contains(&window.text.chars().count()), "{:?}", window);
            }
        }
    }
}
