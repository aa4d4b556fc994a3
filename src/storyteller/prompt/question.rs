//! Where in a prompt its statement is: after the question's opening, up to the question's end.

/// The clause after the question's opening, and whether there was one.
pub(super) fn strip_question(line: &str) -> (&str, bool) {
    const OPENINGS: [&str; 22] = [
        "what would have happened if",
        "what would happen if",
        "what might have happened if",
        "what could have happened if",
        "what would the world be like if",
        "what would the world look like if",
        "how would the world look if",
        "how would history have changed if",
        "what happens if",
        "what about if",
        "and what if",
        "so what if",
        "what if",
        "whatif",
        "wat if",
        "imagine if",
        "imagine that",
        "imagine",
        "suppose that",
        "suppose",
        "but what if",
        "if",
    ];
    const FOREIGN: [&str; 17] = [
        "điều gì sẽ xảy ra nếu",
        "điều gì xảy ra nếu",
        "chuyện gì sẽ xảy ra nếu",
        "chuyện gì xảy ra nếu",
        "sẽ ra sao nếu",
        "giả sử",
        "nếu",
        "qué pasaría si",
        "¿qué pasaría si",
        "que pasaria si",
        "y si",
        "et si",
        "was wäre, wenn",
        "was wäre wenn",
        "e se",
        "что если",
        "а что если",
    ];
    for (openings, asked) in [(&OPENINGS[..], true), (&FOREIGN[..], true)] {
        for opening in openings {
            if let Some(rest) = strip_folded(line, opening) {
                return (rest, asked);
            }
        }
    }
    // One slip in either word: "waht if", "what fi".
    let mut parts = line.splitn(3, ' ');
    if let (Some(first), Some(second), Some(rest)) = (parts.next(), parts.next(), parts.next()) {
        let sorted = |word: &str| {
            let mut letters: Vec<char> =
                word.to_lowercase().chars().filter(|c| c.is_alphabetic()).collect();
            letters.sort_unstable();
            letters.into_iter().collect::<String>()
        };
        let what =
            ["ahtw", "ahw", "atw", "aahtw", "ahttw", "htw"].contains(&sorted(first).as_str());
        if what && ["fi", "ffi", "fii", "fo"].contains(&sorted(second).as_str()) {
            return (rest, true);
        }
    }
    (line, false)
}

/// `line` without `opening`, whatever the case, if a word boundary follows.
fn strip_folded<'a>(line: &'a str, opening: &str) -> Option<&'a str> {
    let mut rest = line.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '¿').chars();
    for expected in opening.chars() {
        let got = rest.next()?;
        if !got.to_lowercase().eq(expected.to_lowercase()) {
            return None;
        }
    }
    let rest = rest.as_str();
    if rest.starts_with(char::is_alphanumeric) {
        return None;
    }
    Some(rest.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '¿'))
}

/// Up to the question mark, or a full stop with something after it.
pub(super) fn first_sentence(clause: &str) -> &str {
    let end = clause
        .char_indices()
        .find(|(at, c)| {
            matches!(c, '?' | '？' | ';')
                || (matches!(c, '.' | '!')
                    && clause[at + 1..].starts_with(' ')
                    && clause[..*at].split(' ').next_back().is_some_and(|word| word.len() > 2))
        })
        .map_or(clause.len(), |(at, _)| at);
    clause[..end].trim_end_matches([' ', '.', '!', ',', '?', '…', '-', '—'])
}
