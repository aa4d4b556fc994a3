//! One line of the choice block. Models are asked for `1. Label | hint` and write many things near it.

use std::collections::BTreeSet;

use super::MAX_LABEL_CHARS;

/// Reads `1. Label | hint`, `1) Label`, `(1) Label`, `- Label`, `a) Label`, each with or without bold marks, or a bare
/// `Label | hint`. Anything else is not a choice.
pub(super) fn parse(line: &str) -> Option<(String, Option<String>)> {
    let line = line.replace("**", "").replace("__", "");
    let line = line.trim_matches(|c: char| c.is_whitespace() || c == '`' || c == '>' || c == '#');
    let (marked, body) = match strip_bullet(line) {
        Some(rest) => (true, strip_number(rest).unwrap_or(rest)),
        None => strip_number(line).map_or((false, line), |rest| (true, rest)),
    };
    let (label, hint) = match body.split_once(['|', '|']) {
        Some((label, hint)) => (label, Some(hint)),
        None if marked => (body, None),
        None => return None,
    };
    let label = clean(label);
    if !label.chars().any(char::is_alphanumeric) {
        return None;
    }
    Some((label, hint.map(clean).filter(|hint| hint.chars().any(char::is_alphanumeric))))
}

/// What tells one label from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// Letters and digits, in lower case.
    letters: String,
    /// The words that say something: those of three letters and more, or all if there are none.
    words: BTreeSet<String>,
}

impl Key {
    pub(super) fn of(label: &str) -> Self {
        let words = |least: usize| -> BTreeSet<String> {
            let words = label.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
            words.filter(|word| word.chars().count() >= least && word != "the").collect()
        };
        let (telling, all) = (words(3), words(1));
        Self {
            letters: label
                .chars()
                .filter(|c| c.is_alphanumeric())
                .flat_map(char::to_lowercase)
                .collect(),
            words: if telling.is_empty() { all } else { telling },
        }
    }

    /// Whether a reader would take the two for the same: the same letters, or all but the same words in any order.
    pub(super) fn is_like(&self, other: &Key) -> bool {
        let shared = self.words.intersection(&other.words).count();
        let all = self.words.union(&other.words).count();
        self.letters == other.letters || (shared > 0 && shared * 20 > all * 17)
    }
}

fn strip_bullet(line: &str) -> Option<&str> {
    let rest = line.strip_prefix(['-', '*', '+', '•', '·', '–', '—'])?;
    rest.starts_with(char::is_whitespace).then(|| rest.trim_start())
}

/// `1.`, `12)`, `3:`, `(1)`, `[2]`, `a)`.
fn strip_number(line: &str) -> Option<&str> {
    let open = line.strip_prefix(['(', '[']);
    let inner = open.unwrap_or(line);
    let digits = inner.bytes().take_while(u8::is_ascii_digit).count();
    let end = match digits {
        1 | 2 => digits,
        0 if inner.starts_with(|c: char| c.is_ascii_alphabetic()) => 1,
        _ => return None,
    };
    let rest = &inner[end..];
    let rest = match open {
        Some(_) => rest.strip_prefix([')', ']'])?.trim_start_matches(['.', ':']),
        None if digits == 0 => rest.strip_prefix([')', '.'])?,
        None => rest.strip_prefix(['.', ')', ':', '、', '.'])?,
    };
    Some(rest.trim_start())
}

/// One line of plain text: no control characters, single spaces, no quotes or emphasis around it, bounded.
fn clean(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !c.is_control()));
    }
    let mut inner = line.trim().trim_matches(['*', '_', '`']).trim();
    for (open, close) in [('"', '"'), ('“', '”'), ('«', '»')] {
        let unquoted = inner.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(text) = unquoted.filter(|text| !text.contains([open, close])) {
            inner = text.trim();
        }
    }
    match inner.char_indices().nth(MAX_LABEL_CHARS) {
        None => inner.to_owned(),
        Some(_) => {
            let end = inner.char_indices().nth(MAX_LABEL_CHARS - 1).map_or(0, |(at, _)| at);
            let cut = &inner[..end];
            let cut = cut.rsplit_once(' ').map_or(cut, |(head, _)| head);
            format!("{}…", cut.trim_end_matches(|c: char| !c.is_alphanumeric()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_lines_are_read_leniently() {
        for (line, label, hint) in [
            ("1. Open the gate | The grain is lost", "Open the gate", Some("The grain is lost")),
            ("1) Open the gate", "Open the gate", None),
            ("(2) Open the gate|costs trust", "Open the gate", Some("costs trust")),
            ("[3] Open the gate", "Open the gate", None),
            ("- Open the gate", "Open the gate", None),
            ("* Open the gate | trust -1", "Open the gate", Some("trust -1")),
            ("  • Open   the\tgate ", "Open the gate", None),
            ("**1. Open the gate** | The grain", "Open the gate", Some("The grain")),
            ("1. **Open the gate** | *The grain*", "Open the gate", Some("The grain")),
            ("**1.** Open the gate", "Open the gate", None),
            ("- 2. \"Open the gate\"", "Open the gate", None),
            ("### 1. Open the gate", "Open the gate", None),
            ("A) Open the gate", "Open the gate", None),
            ("4:Open the gate |", "Open the gate", None),
            ("1. Open\u{7} the gate\r", "Open the gate", None),
            ("Open the gate | The grain", "Open the gate", Some("The grain")),
            ("1. Say \"no\" and \"yes\"", "Say \"no\" and \"yes\"", None),
            ("2、打开城门|粮食没了", "打开城门", Some("粮食没了")),
            ("1. | only a hint", "", None),
            ("Here are your choices:", "", None),
            ("---", "", None),
            ("```", "", None),
            ("-5 degrees", "", None),
            ("2024 was cold", "", None),
            ("", "", None),
        ] {
            let want = (!label.is_empty()).then(|| (label.to_owned(), hint.map(str::to_owned)));
            assert_eq!(parse(line), want, "{line:?}");
        }
    }

    #[test]
    fn labels_that_say_the_same_are_alike() {
        for (one, other, alike) in [
            ("Open the gate", "open the Gate!", true),
            ("Open the temple granaries", "Open the granaries of the temple", true),
            ("Send the reserve to hold the pass", "Send the reserve to hold the ford", false),
            ("Open the gate", "Close the gate", false),
            ("Go", "No", false),
            ("打开城门", "关上城门", false),
            ("Ask him", "Ask her", false),
        ] {
            assert_eq!(Key::of(one).is_like(&Key::of(other)), alike, "{one} / {other}");
        }
    }

    #[test]
    fn long_labels_and_hints_are_cut_at_a_word() {
        let (label, hint) = parse(&format!("1. {}| {}", "word ".repeat(60), "ä".repeat(300)))
            .expect("a numbered line");
        assert!(label.ends_with("word…") && label.chars().count() <= MAX_LABEL_CHARS, "{label}");
        assert_eq!(hint.map(|hint| hint.chars().count()), Some(MAX_LABEL_CHARS));
    }
}
