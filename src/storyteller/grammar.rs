//! What differs between languages when slots are filled: articles, pronouns, and how a person is introduced.

use super::template::Case;
use super::world::Pronoun;

/// The grammar of one language.
#[derive(Debug)]
pub struct Grammar {
    /// What `{a:…}` puts before a word.
    pub article: Option<fn(&str) -> &'static str>,
    /// he, him, his.
    he: [&'static str; 3],
    /// she, her, her.
    she: [&'static str; 3],
    /// For a part that nobody plays.
    pub nobody: &'static str,
}

const ENGLISH: Grammar = Grammar {
    article: Some(indefinite),
    he: ["he", "him", "his"],
    she: ["she", "her", "her"],
    nobody: "somebody",
};

/// No articles, and one form of a pronoun for everything that it does in a sentence.
const VIETNAMESE: Grammar = Grammar {
    article: None,
    he: ["ông ấy", "ông ấy", "ông ấy"],
    she: ["bà ấy", "bà ấy", "bà ấy"],
    nobody: "ai đó",
};

impl Grammar {
    /// English for a language that has none here.
    pub fn of(tag: &str) -> &'static Self {
        match tag {
            "vi" => &VIETNAMESE,
            _ => &ENGLISH,
        }
    }

    /// Empty for a name.
    pub fn pronoun(&self, pronoun: Pronoun, case: Case) -> &'static str {
        let [he, him, his] = match pronoun {
            Pronoun::He => self.he,
            Pronoun::She => self.she,
        };
        match case {
            Case::Name => "",
            Case::He => he,
            Case::Him => him,
            Case::His => his,
        }
    }
}

/// `a` or `an`, by the sound of the first word.
pub fn indefinite(text: &str) -> &'static str {
    const SILENT_H: [&str; 4] = ["hour", "heir", "honest", "honour"];
    const YOO_OR_WON: [&str; 9] = ["uni", "use", "usu", "eu", "ewe", "one", "once", "ute", "uto"];
    let word: String = text
        .chars()
        .take_while(|c| !c.is_whitespace())
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric())
        .collect();
    // The names of letters: an S, a U.
    if let [letter] = word.as_bytes() {
        return if b"aefhilmnorsx8".contains(letter) { "an" } else { "a" };
    }
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u', '8'])
        || word.starts_with("11")
        || word.starts_with("18");
    let silent = SILENT_H.iter().any(|start| word.starts_with(start));
    let consonant = YOO_OR_WON.iter().any(|start| word.starts_with(start))
        && !["unin", "unim"].iter().any(|start| word.starts_with(start));
    if silent || (vowel && !consonant) { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_follow_the_sound() {
        for (word, article) in [
            ("orchard", "an"),
            ("university", "a"),
            ("hour", "an"),
            ("s", "an"),
            ("U", "a"),
            ("8", "an"),
            ("house", "a"),
            ("uninvited guest", "an"),
            ("European", "a"),
            ("one-eyed clerk", "a"),
            ("umbrella", "an"),
            ("18th", "an"),
            ("Élan", "a"),
        ] {
            assert_eq!(indefinite(word), article, "{word}");
        }
    }
}
