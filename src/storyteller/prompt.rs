//! Reads a "what if" prompt: who, what turned, when. Whatever cannot be read stays the reader's own words, to be quoted.

mod question;
mod vietnamese;
mod year;

use serde::Deserialize;

use self::question::{first_sentence, strip_question};
use super::lexicon::{find_era, find_verb, operator};

/// What kind of turn the prompt gives to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    Never,
    Always,
    Instead,
    Vanished,
    Won,
    Lost,
    Discovered,
    Survived,
    Could,
    /// A statement, but of no kind known here.
    Other,
    /// No statement at all.
    Quoted,
}

impl Operator {
    pub const ALL: [Operator; 10] = [
        Operator::Never,
        Operator::Always,
        Operator::Instead,
        Operator::Vanished,
        Operator::Won,
        Operator::Lost,
        Operator::Discovered,
        Operator::Survived,
        Operator::Could,
        Operator::Other,
    ];

    pub const fn key(self) -> &'static str {
        match self {
            Operator::Never => "never",
            Operator::Always => "always",
            Operator::Instead => "instead",
            Operator::Vanished => "vanished",
            Operator::Won => "won",
            Operator::Lost => "lost",
            Operator::Discovered => "discovered",
            Operator::Survived => "survived",
            Operator::Could => "could",
            Operator::Other => "other",
            Operator::Quoted => "quoted",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The statement after "what if", without a full stop; the words themselves when there is none.
    pub premise: String,
    pub actor: String,
    pub operator: Operator,
    /// What the turn is about: what follows the operator, without the era.
    pub object: String,
    /// `in 1900`, `before the Middle Ages`.
    pub era: Option<String>,
    /// The year it begins in, when the era says so; negative before the common era.
    pub year: Option<i32>,
    /// All words, in lower case, for the choice of a pack.
    pub words: Vec<String>,
}

const MAX_PREMISE: usize = 160;
const MAX_ACTOR_WORDS: usize = 6;

/// Makes anybody's text fit for a sentence of ours: one line, no marks that the turn format or a template could
/// take for its own, at most `max` characters, cut at a word.
pub fn tame(text: &str, max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max * 4));
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let before = line.len();
        if !line.is_empty() {
            line.push(' ');
        }
        let start = line.len();
        line.extend(word.chars().filter_map(|c| match c {
            '<'
            | '>'
            | '{'
            | '}'
            | '|'
            | '\\'
            | '`'
            | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => None,
            '"' => Some('’'),
            '“' | '”' | '„' | '«' | '»' => Some('’'),
            '\'' => Some('’'),
            c => Some(c),
        }));
        if line.len() == start {
            line.truncate(before);
        }
        if line.chars().count() > max {
            let cut: String = line.chars().take(max).collect();
            let cut = match cut.rsplit_once(' ') {
                Some((head, _)) if head.chars().count() * 2 > max => head.to_owned(),
                _ => cut,
            };
            return format!("{}…", cut.trim_end_matches(|c: char| !c.is_alphanumeric()));
        }
    }
    line
}

pub fn words_of(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '’' || c == '\'' || c == '-'))
        .map(|word| word.trim_matches(['’', '\'', '-']).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// Reads a prompt in the language of the story.
pub fn parse(source: &str, language: &str) -> Prompt {
    let line = tame(source, MAX_PREMISE);
    if language == "vi" {
        return vietnamese::parse(&line);
    }
    let words = words_of(&line);
    let (clause, asked) = strip_question(&line);
    let clause = first_sentence(clause);
    let tokens: Vec<&str> = clause.split(' ').filter(|token| !token.is_empty()).collect();
    let lower: Vec<String> = tokens.iter().map(|token| bare(token)).collect();
    let era = find_era(&tokens, &lower);
    let year = era.and_then(|(from, to)| year::of(&lower[from..to]));
    let verb = find_verb(&lower);
    let enough = tokens.len() >= 2 && verb.is_some_and(|at| at > 0 || lower[0] == "there");
    if !enough || !clause.chars().any(char::is_alphabetic) {
        let era = era.map(|(from, to)| trimmed(&tokens[from..to]));
        return Prompt { era, year, ..quoted(&line, clause, asked, words) };
    }
    let verb = verb.unwrap_or(0);
    let operator = operator(&lower, verb);
    let actor = actor(&tokens, &lower, verb, era);
    let object: Vec<&str> = tokens
        .iter()
        .enumerate()
        .skip(verb + 1)
        .filter(|(at, _)| era.is_none_or(|(from, to)| !(from..to).contains(at)))
        .filter(|(at, _)| {
            !["never", "always", "had", "been", "was", "were"].contains(&lower[*at].as_str())
        })
        .map(|(_, token)| *token)
        .collect();
    Prompt {
        premise: addressed(&tokens, &lower),
        actor,
        operator,
        object: trimmed(&object),
        era: era.map(|(from, to)| trimmed(&tokens[from..to])),
        year,
        words,
    }
}

/// What is no statement: the reader's words, to be quoted.
fn quoted(line: &str, clause: &str, asked: bool, words: Vec<String>) -> Prompt {
    let quoted =
        if asked && !clause.is_empty() { clause } else { line.trim_end_matches(['?', ' ']) };
    let quoted = if quoted.is_empty() { "…" } else { quoted };
    Prompt {
        premise: quoted.to_owned(),
        actor: format!("“{}”", tame(quoted, 48)),
        operator: Operator::Quoted,
        object: quoted.to_owned(),
        era: None,
        year: None,
        words,
    }
}

fn bare(token: &str) -> String {
    token.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

fn trimmed(tokens: &[&str]) -> String {
    tokens.join(" ").trim_matches([',', ' ', '.', ';', ':']).to_owned()
}

fn actor(tokens: &[&str], lower: &[String], verb: usize, era: Option<(usize, usize)>) -> String {
    let outside = |at: &usize| era.is_none_or(|(from, to)| !(from..to).contains(at));
    let range: Vec<usize> = if lower[0] == "there" {
        let start = (verb + 1..lower.len()).find(|&at| {
            !["no", "been", "not", "any", "a", "an", "never", "only"].contains(&lower[at].as_str())
        });
        let Some(start) = start else { return "the world".to_owned() };
        let end = (start..lower.len())
            .find(|&at| {
                ["in", "on", "at", "and", "but", "to", "for", "left"].contains(&lower[at].as_str())
            })
            .unwrap_or(lower.len());
        (start..end.max(start + 1)).filter(outside).collect()
    } else {
        let end = lower[..verb]
            .iter()
            .position(|word| word == "instead" || word == "suddenly")
            .unwrap_or(verb);
        (0..end).filter(outside).collect()
    };
    let named: Vec<&str> = range.into_iter().map(|at| tokens[at]).collect();
    // A long subject is called by its head: the words before the first "of", "who", "that".
    let cut = if named.len() > MAX_ACTOR_WORDS {
        named
            .iter()
            .position(|word| ["who", "that", "which", "with", "and"].contains(word))
            .filter(|at| *at > 0)
            .unwrap_or(MAX_ACTOR_WORDS)
    } else {
        named.len()
    };
    let named: Vec<String> = named[..cut]
        .iter()
        .map(|word| you(word, false).unwrap_or_else(|| (*word).to_owned()))
        .collect();
    let actor = trimmed(&named.iter().map(String::as_str).collect::<Vec<_>>());
    let actor = ["ever", "never", "always", "just", "all"]
        .iter()
        .find_map(|word| actor.strip_suffix(word)?.strip_suffix(' '))
        .unwrap_or(&actor);
    match actor.to_lowercase().as_str() {
        "" | "it" | "all" => "the world".to_owned(),
        // What came of it is said to have come of the actor, which nothing can of nobody in particular.
        "everyone" | "everybody" | "nobody" | "no one" | "someone" | "somebody" | "anyone"
        | "people" | "nothing" | "everything" | "something" => "the change".to_owned(),
        "they" => "the others".to_owned(),
        "he" => "that man".to_owned(),
        "she" => "that woman".to_owned(),
        "we" | "us" => "all of us".to_owned(),
        _ => actor.strip_prefix("all ").unwrap_or(actor).to_owned(),
    }
}

/// The reader's "I" as the story's "you".
fn addressed(tokens: &[&str], lower: &[String]) -> String {
    let mut out: Vec<String> = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        let after_i = at > 0 && lower[at - 1] == "i";
        out.push(match (lower[at].as_str(), after_i) {
            ("was", true) => "were".to_owned(),
            ("am", true) => "are".to_owned(),
            ("wasn’t", true) => "weren’t".to_owned(),
            _ => you(token, at + 1 == tokens.len()).unwrap_or_else(|| (*token).to_owned()),
        });
    }
    out.join(" ")
}

fn you(token: &str, _last: bool) -> Option<String> {
    let word = match token {
        "I" | "i" | "me" => "you",
        "I’d" | "i’d" => "you’d",
        "I’m" | "i’m" => "you’re",
        "I’ve" | "i’ve" => "you’ve",
        "my" | "My" => "your",
        "mine" => "yours",
        "myself" => "yourself",
        _ => return None,
    };
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn many_wordings_are_read() {
        use Operator as O;
        for (source, actor, operator, era) in [
            ("What if Rome never fell?", "Rome", O::Never, None),
            (
                "what if the library of Alexandria had not burned?",
                "the library of Alexandria",
                O::Never,
                None,
            ),
            (
                "What would have happened if Napoleon won at Waterloo in 1815?",
                "Napoleon",
                O::Won,
                Some("in 1815"),
            ),
            (
                "What if the internet was invented in 1900?",
                "the internet",
                O::Discovered,
                Some("in 1900"),
            ),
            ("What if the Moon vanished tonight?", "the Moon", O::Vanished, Some("tonight")),
            (
                "What if China instead of Spain reached America by the 15th century?",
                "China",
                O::Instead,
                Some("by the 15th century"),
            ),
            ("waht if cats could talk", "cats", O::Could, None),
            ("Imagine the dinosaurs survived", "the dinosaurs", O::Survived, None),
            ("What if all bees vanished?", "bees", O::Vanished, None),
            ("What if there were no bees?", "bees", O::Vanished, None),
            ("What if I had never met my wife?", "you", O::Never, None),
            ("rome nver fell", "rome", O::Never, None),
            ("What if it always rained?", "the world", O::Always, None),
            (
                "What if the printing press was discovered during the Bronze Age?",
                "the printing press",
                O::Discovered,
                Some("during the Bronze Age"),
            ),
            ("What if Carthage had defeated Rome, and Hannibal ruled?", "Carthage", O::Won, None),
            ("What if the Titanic didn't sink?", "the Titanic", O::Never, None),
            ("What if trees sailed?", "trees", O::Other, None),
            ("What if everyone forgot how to lie?", "the change", O::Other, None),
            ("What if nobody ever slept?", "the change", O::Never, None),
            ("What if it rains upwards in 1950?", "the world", O::Other, Some("in 1950")),
        ] {
            let prompt = parse(source, "en");
            assert_eq!(
                (prompt.actor.as_str(), prompt.operator, prompt.era.as_deref()),
                (actor, operator, era),
                "{source}"
            );
        }
        assert_eq!(parse("What if I was never born?", "en").premise, "you were never born");
        assert_eq!(
            parse("What if Carthage had defeated Rome in 202 BC?", "en").object,
            "defeated Rome"
        );
    }

    #[test]
    fn what_is_no_statement_is_quoted() {
        for (source, words) in [
            ("", "…"),
            ("???", "…"),
            ("pizza", "pizza"),
            ("asdf jkl", "asdf jkl"),
            ("¿Qué pasaría si Roma nunca hubiera caído?", "Roma nunca hubiera caído"),
            ("もしローマが滅びなかったら", "もしローマが滅びなかったら"),
            ("What if?", "What if"),
        ] {
            let prompt = parse(source, "en");
            assert_eq!(
                (prompt.operator, prompt.premise.as_str()),
                (Operator::Quoted, words),
                "{source}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_something_that_can_be_printed(source in any::<String>()) {
            let prompt = parse(&source, "en");
            for part in [&prompt.premise, &prompt.actor] {
                prop_assert!(!part.is_empty());
                let marks = ['\n', '<', '|', '{', '}'];
                prop_assert!(!part.contains(marks));
                prop_assert!(part.chars().count() <= MAX_PREMISE + 3);
            }
        }
    }
}
