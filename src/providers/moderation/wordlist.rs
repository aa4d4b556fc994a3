//! A list of words and phrases, read in this process.
//!
//! Whole words only: `Scunthorpe` and `assassin` hold nothing. What of evasion is seen through says `fold`; what is not:
//! letters left out or masked (`k*ll`), other spellings, inflections that are not listed, and meaning.
//!
//! Most scripts have words, so a look-up of each word's readings finds a phrase's beginning and no automaton is needed. In
//! scripts without spaces an entry is found anywhere, by Aho-Corasick.

use std::collections::HashMap;
use std::path::Path;

use aho_corasick::AhoCorasick;
use async_trait::async_trait;

use super::fold::{self, Listed};
use super::{ModerationProvider, Verdict};
use crate::providers::text::ProviderError;

/// Of an entry; spaced out, it still lies within what two windows of a text have in common.
const MAX_ENTRY_CHARS: usize = 80;
const MAX_CATEGORY_CHARS: usize = 40;
/// Of entries that stand under no heading.
const DEFAULT_CATEGORY: &str = "wordlist";

/// Why a list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadList {
    #[error("cannot read {path}: {cause}")]
    File { path: String, cause: String },
    #[error("{place}: {message}")]
    Entry { place: String, message: String },
    #[error("the list is empty")]
    Empty,
}

pub struct Wordlist {
    entries: Vec<Entry>,
    /// Entries by the readings of their first word.
    by_first: HashMap<String, Vec<usize>>,
    /// Entries by all their words together, for text that is spaced out.
    run_together: HashMap<String, usize>,
    unspaced: Option<(AhoCorasick, Vec<String>)>,
}

struct Entry {
    words: Vec<Listed>,
    category: String,
}

impl Wordlist {
    /// The entries of a file and of the configuration. A file has an entry on each line; `#` begins a comment, and
    /// `[violence]` on a line of its own names the category of the entries below it.
    ///
    /// # Errors
    /// A file that cannot be read, an entry that no text could match; a list without any.
    pub fn load(file: Option<&Path>, inline: &[String]) -> Result<Self, BadList> {
        let mut lines = Vec::new();
        let mut category = DEFAULT_CATEGORY.to_owned();
        if let Some(path) = file {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| BadList::File { path: name.clone(), cause: error.to_string() })?;
            for (number, line) in text.lines().enumerate() {
                let line = line.split('#').next().unwrap_or_default().trim();
                let place = || format!("{name}, line {}", number + 1);
                if let Some(heading) =
                    line.strip_prefix('[').and_then(|line| line.strip_suffix(']'))
                {
                    category = check_category(heading).ok_or_else(|| BadList::Entry {
                        place: place(),
                        message: "a category has 1 to 40 of a-z, 0-9, _, - and /".into(),
                    })?;
                } else if !line.is_empty() {
                    lines.push((place(), line.to_owned(), category.clone()));
                }
            }
        }
        let inline = inline.iter().filter(|entry| !entry.trim().is_empty());
        lines.extend(inline.map(|entry| {
            ("moderation.words".to_owned(), entry.clone(), DEFAULT_CATEGORY.to_owned())
        }));
        Self::build(lines)
    }

    fn build(lines: Vec<(String, String, String)>) -> Result<Self, BadList> {
        let mut list = Self {
            entries: Vec::new(),
            by_first: HashMap::new(),
            run_together: HashMap::new(),
            unspaced: None,
        };
        let (mut patterns, mut categories) = (Vec::new(), Vec::new());
        for (place, entry, category) in lines {
            let bad = |message: &str| BadList::Entry {
                place: place.clone(),
                message: format!("`{entry}` {message}"),
            };
            if entry.chars().count() > MAX_ENTRY_CHARS {
                return Err(bad("has more than 80 characters"));
            }
            let together = fold::run_together(&entry);
            if !together.chars().any(char::is_alphabetic) {
                return Err(bad("has no letters"));
            }
            if together.contains(fold::is_unspaced) {
                patterns.push(together);
                categories.push(category);
                continue;
            }
            let (id, words) = (list.entries.len(), fold::listed(&entry));
            if let Some(first) = words.first() {
                for reading in [&first.plain, &first.squeezed] {
                    list.by_first.entry(reading.clone()).or_default().push(id);
                }
            }
            list.run_together.insert(together, id);
            list.entries.push(Entry { words, category });
        }
        if list.entries.is_empty() && patterns.is_empty() {
            return Err(BadList::Empty);
        }
        if !patterns.is_empty() {
            let found = AhoCorasick::new(&patterns).map_err(|error| BadList::Entry {
                place: "the list".into(),
                message: error.to_string(),
            })?;
            list.unspaced = Some((found, categories));
        }
        Ok(list)
    }

    /// The category of the first entry that the text holds.
    pub fn find(&self, text: &str) -> Option<&str> {
        let disguised = fold::has_signs(text);
        let plain = self.find_words(&fold::words(text, false));
        plain
            .or_else(|| disguised.then(|| self.find_words(&fold::words(text, true))).flatten())
            .or_else(|| {
                let (found, categories) = self.unspaced.as_ref()?;
                if !text.contains(fold::is_unspaced) {
                    return None;
                }
                let hit = found.find(&fold::run_together(text))?;
                Some(&categories[hit.pattern().as_usize()])
            })
    }

    fn find_words(&self, words: &[fold::Word]) -> Option<&str> {
        let found = words.iter().enumerate().find_map(|(at, word)| {
            word.readings.iter().find_map(|reading| {
                let spaced = word.spaced.then(|| self.run_together.get(reading).copied()).flatten();
                spaced.or_else(|| {
                    let ids = self.by_first.get(reading)?;
                    ids.iter().copied().find(|id| follows(&words[at..], &self.entries[*id].words))
                })
            })
        })?;
        Some(&self.entries[found].category)
    }
}

/// Whether a text begins with all words of an entry, the first of which is known to.
fn follows(text: &[fold::Word], entry: &[Listed]) -> bool {
    text.len() >= entry.len()
        && entry.iter().zip(text).skip(1).all(|(listed, word)| word.reads(listed))
}

fn check_category(name: &str) -> Option<String> {
    let name = name.trim();
    let fits = (1..=MAX_CATEGORY_CHARS).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-/".contains(&b));
    fits.then(|| name.to_owned())
}

#[async_trait]
impl ModerationProvider for Wordlist {
    fn name(&self) -> &str {
        "wordlist"
    }

    async fn check(&self, text: &str) -> Result<Verdict, ProviderError> {
        Ok(match self.find(text) {
            Some(category) => Verdict::Blocked { category: category.to_owned() },
            None => Verdict::Allowed,
        })
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        Ok(())
    }

    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn list(words: &[&str]) -> Wordlist {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Wordlist::load(None, &words).unwrap()
    }

    #[test]
    fn words_are_found_however_they_are_dressed_up() {
        let list =
            list(&["ass", "cunt", "shit", "kill yourself", "Arschloch", "mörder", "сука", "傻逼"]);
        for text in [
            "You ass!",
            "ASS",
            "Kill   yourself.",
            "kill-yourself",
            "kill\nyourself",
            "KILL YOURSELF",
            "ｋｉｌｌ yourself",
            "𝓀𝒾𝓁𝓁 yourself",
            "kíll yoursèlf",
            "k\u{200b}ill your\u{ad}self",
            "Ein Mo\u{308}rder",
            "ARSCHLOCH",
            "5h1t",
            "sh!t",
            "$h1t!",
            "sh|t",
            "a$$",
            "@ss",
            "k1ll y0ur53lf",
            "ki11 yourself",
            "s h i t",
            "s.h.i.t",
            "s-h-i-t happens",
            "s_h_1_t",
            "S H I T !",
            "k i l l  y o u r s e l f",
            "k i l l y o u r s e l f",
            "a s h i t",
            "shiiiiit",
            "SHHHHHIIIIT",
            "kiiill yourseeeelf",
            "aѕs",
            "ѕhіt",
            "СУКА",
            "he is a 傻 逼 indeed",
            "大傻逼！",
        ] {
            assert!(list.find(text).is_some(), "{text}");
        }
    }

    #[test]
    fn false_friends_are_left_alone() {
        let list = list(&[
            "ass",
            "cunt",
            "shit",
            "kill yourself",
            "tit",
            "anal",
            "cum",
            "hell",
            "the rapist",
            "傻逼",
        ]);
        for text in [
            "Scunthorpe, Penistone and Lightwater",
            "The assassin passed the class with a compass.",
            "Matsushita; a shiitake mushroom",
            "S c u n t h o r p e",
            "He will kill. Himself? Yourself!",
            "kill time, yourself",
            "The A55 to Bangor",
            "title, constitution, titan",
            "analysis of the canal",
            "document, cumulus",
            "He'll say hello to Michelle.",
            "a therapist",
            "1984 and 455",
            "as $100 as that",
            "A. S. Byatt",
            "傻瓜",
            "",
            "!!! ??? ...",
        ] {
            assert_eq!(list.find(text), None, "{text}");
        }
    }

    #[test]
    fn a_file_has_categories_and_comments_and_mistakes_have_a_place() {
        let file = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        let read = |text: &str| {
            let held = file(text);
            Wordlist::load(Some(held.path()), &["Moloch".into()])
        };
        let list = read("plain # a comment\n\n# more\n[self-harm]\nkill yourself\n").unwrap();
        for (text, category) in [
            ("a plain day", Some("wordlist")),
            ("Go, kill yourself", Some("self-harm")),
            ("moloch", Some("wordlist")),
            ("more of a comment", None),
        ] {
            assert_eq!(list.find(text), category, "{text}");
        }
        for (text, message) in [
            ("fine\n[No Good]\n", "line 2: a category"),
            ("fine\n\n123\n", "line 3: `123` has no letters"),
            (&"x".repeat(81), "more than 80"),
        ] {
            let error = read(text).err().unwrap().to_string();
            assert!(error.contains(message), "{error}");
        }
        let error =
            |file: &str| Wordlist::load(Some(Path::new(file)), &[]).err().unwrap().to_string();
        assert!(error("no/such/list").contains("cannot read no/such/list"));
        assert!(matches!(Wordlist::load(None, &[" ".into()]), Err(BadList::Empty)));
    }

    #[test]
    fn a_long_text_takes_little_time() {
        let words: Vec<String> = (0..20_000).map(|n| format!("word{n}x bad")).collect();
        let list = Wordlist::load(None, &words).unwrap();
        let text = "s p a c e d 0ut w1th s1gns and wooooords ".repeat(500);
        let since = std::time::Instant::now();
        assert_eq!(list.find(&text), None);
        assert!(since.elapsed() < std::time::Duration::from_secs(2), "{:?}", since.elapsed());
    }
}
