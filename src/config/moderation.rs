//! What may be said and shown.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Moderation {
    pub provider: Moderator,
    pub on_failure: OnFailure,
    /// About how much text of a model is judged at once, in characters; so much of it is held back.
    pub window_chars: usize,
    /// Longest wait for a verdict.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The word list: a file of entries, and more of them.
    pub words_file: Option<PathBuf>,
    pub words: Vec<String>,
    /// Of the server; without a base URL those of `[providers.openai]`.
    pub api_key: Option<SecretString>,
    pub base_url: Option<String>,
    pub model: String,
    /// Verdicts that are waited for at the same time.
    pub max_concurrency: usize,
    /// Scores (0-1) from which on a category blocks.
    pub thresholds: BTreeMap<String, f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moderator {
    #[default]
    None,
    /// A list of words, in this process.
    Wordlist,
    /// OpenAI's `/moderations`, or a server with the same.
    OpenAi,
}

/// What becomes of a text that nobody can judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    #[default]
    Allow,
    Block,
}

impl Default for Moderation {
    fn default() -> Self {
        Self {
            provider: Moderator::None,
            on_failure: OnFailure::Allow,
            window_chars: 240,
            timeout: Duration::from_secs(2),
            words_file: None,
            words: Vec::new(),
            api_key: None,
            base_url: None,
            model: "omni-moderation-latest".into(),
            max_concurrency: 64,
            thresholds: BTreeMap::new(),
        }
    }
}

impl Moderation {
    /// For a person.
    pub(super) fn describe(&self) -> String {
        match self.provider {
            Moderator::None => "none".to_owned(),
            Moderator::Wordlist => match &self.words_file {
                Some(file) => format!("word list {}", file.display()),
                None => format!("word list of {}", self.words.len()),
            },
            Moderator::OpenAi => format!("openai ({})", self.model),
        }
    }

    /// The key that breaks a rule, and the rule.
    pub(super) fn broken(&self) -> Option<(&'static str, &'static str)> {
        let score = |at: &f64| (0.0..=1.0).contains(at);
        let no_words = self.words_file.is_none() && self.words.is_empty();
        if !(40..=4_000).contains(&self.window_chars) {
            return Some(("moderation.window_chars", "must be from 40 to 4000"));
        }
        if self.timeout.is_zero() {
            return Some(("moderation.timeout", "must be above 0"));
        }
        if self.max_concurrency == 0 {
            return Some(("moderation.max_concurrency", "must be at least 1"));
        }
        if !self.thresholds.values().all(score) {
            return Some(("moderation.thresholds", "must be scores from 0 to 1"));
        }
        match self.provider {
            Moderator::Wordlist if no_words => {
                Some(("moderation.words_file", "or moderation.words must be set for `wordlist`"))
            }
            Moderator::OpenAi if self.model.trim().is_empty() => {
                Some(("moderation.model", "must not be empty"))
            }
            _ => None,
        }
    }
}
