//! Text out of what may be markup: other people's, in answers of searches.

/// Longest entity that is looked at, in bytes: `&` and `;` included.
const MAX_ENTITY_BYTES: usize = 12;
/// Longest text that is looked at, in characters for each one that is wanted.
const SLACK: usize = 8;

/// One line without tags, entities and invisible characters, of `max` characters at most.
pub(super) fn plain(text: &str, max: usize) -> String {
    let text: String = text.chars().take(max.saturating_mul(SLACK)).collect();
    // What an entity spelled may be a tag as well.
    let text = without_tags(&decoded(&without_tags(&text)));
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let mut word = word.chars().filter(|c| !is_invisible(*c)).peekable();
        if word.peek().is_some() && !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    match line.char_indices().nth(max) {
        None => line,
        Some(_) => {
            let kept: String = line.chars().take(max.saturating_sub(1)).collect();
            format!("{}…", kept.trim_end())
        }
    }
}

/// Without what a browser would take for a tag or a comment; one that never ends takes the rest with it.
fn without_tags(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        kept.push_str(before);
        let opens = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?');
        if !tag[1..].starts_with(opens) {
            kept.push('<');
            rest = &tag[1..];
            continue;
        }
        let end = if tag.starts_with("<!--") { "-->" } else { ">" };
        rest = tag.find(end).map_or("", |at| &tag[at + end.len()..]);
        // Blocks stand apart, and words must not grow together.
        if !tag.starts_with("<b>") && !tag.starts_with("</b>") && !tag.starts_with("<span") {
            kept.push(' ');
        }
    }
    kept.push_str(rest);
    kept
}

fn decoded(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let end = rest.bytes().take(MAX_ENTITY_BYTES).position(|byte| byte == b';');
        match end.and_then(|end| Some((entity(&rest[1..end])?, end))) {
            Some((c, end)) => {
                kept.push(c);
                rest = &rest[end + 1..];
            }
            None => {
                kept.push('&');
                rest = &rest[1..];
            }
        }
    }
    kept.push_str(rest);
    kept
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "ndash" => '–',
        "mdash" => '—',
        "hellip" => '…',
        "lsquo" => '‘',
        "rsquo" => '’',
        "ldquo" => '“',
        "rdquo" => '”',
        _ => return None,
    })
}

/// What a reader does not see and a model does, but for the joiners that scripts and emoji need.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_goes_and_words_stay() {
        for (text, want) in [
            ("plain  text\n here", "plain text here"),
            ("The <span class=\"searchmatch\">Roman</span> Empire", "The Roman Empire"),
            ("<p>One</p><p>Two</p>", "One Two"),
            ("a &lt;b&gt; c &amp; d &#233; &#x1F600; &bogus; &", "a c & d é 😀 &bogus; &"),
            ("&lt;script&gt;x&lt;/script&gt;", "x"),
            ("&amp;lt;i&amp;gt;", "&lt;i&gt;"),
            ("3 < 4 and 5 > 4", "3 < 4 and 5 > 4"),
            ("cut <a href=\"x", "cut"),
            ("<!-- hidden > still --> seen", "seen"),
            ("in\u{200b}vis\u{202e}ible \u{e0041}", "invisible"),
        ] {
            assert_eq!(plain(text, 100), want, "{text}");
        }
        assert_eq!(plain("one two three", 8), "one two…");
        assert_eq!(plain(&"&".repeat(100_000), 10).chars().count(), 10);
    }

    proptest! {
        #[test]
        fn nothing_comes_out_that_opens_a_tag(text in "(<|>|&lt;|&gt;|&amp;|[a-z/! ]){0,40}") {
            let line = plain(&text, 1_000);
            let opens = line.match_indices('<').any(|(at, _)| {
                line[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c))
            });
            prop_assert!(!opens, "{} became {}", text, line);
        }
    }
}
