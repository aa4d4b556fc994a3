//! The chat companion, and where it looks up what the story does not say.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::storage::cache;

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// Answers running at the same time on this replica.
    pub max_answers: usize,
    /// A whole answer, looking things up included.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Most tokens of one answer; the provider's own limit holds as well.
    pub max_output_tokens: u32,
    /// How long what was said is remembered after it was said last.
    #[serde(with = "humantime_serde")]
    pub history_ttl: Duration,
    /// Questions with their answers that are remembered of one chat, and the bytes they may have together.
    pub history_exchanges: usize,
    pub history_bytes: usize,
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            max_answers: 500,
            timeout: Duration::from_secs(120),
            max_output_tokens: 800,
            history_ttl: Duration::from_secs(24 * 3600),
            history_exchanges: 10,
            history_bytes: 16 * 1024,
        }
    }
}

/// Who finds things in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SearchKind {
    SearXng,
    Tavily,
    Wikipedia,
}

impl SearchKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            SearchKind::SearXng => "searxng",
            SearchKind::Tavily => "tavily",
            SearchKind::Wikipedia => "wikipedia",
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    /// In the order they are asked, until one finds something; nobody is asked who is not named.
    pub providers: Vec<SearchKind>,
    /// Things found for one question.
    pub max_results: usize,
    /// Searches of one provider at the same time.
    pub max_concurrency: usize,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// One search, from asking to the end of its answer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long what was found is kept for the same question.
    #[serde(with = "humantime_serde")]
    pub cache_ttl: Duration,
    /// Who runs this, told to those who are asked: an address for their complaints.
    pub contact: Option<String>,
    pub searxng: SearXng,
    pub tavily: Tavily,
    pub wikipedia: Wikipedia,
}

impl Default for Search {
    fn default() -> Self {
        Self {
            providers: Vec::new(),
            max_results: 5,
            max_concurrency: 32,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(3),
            cache_ttl: Duration::from_secs(6 * 3600),
            contact: None,
            searxng: SearXng::default(),
            tavily: Tavily::default(),
            wikipedia: Wikipedia::default(),
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearXng {
    pub base_url: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tavily {
    pub api_key: Option<SecretString>,
    pub base_url: String,
}

impl Default for Tavily {
    fn default() -> Self {
        Self { api_key: None, base_url: "https://api.tavily.com".into() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wikipedia {
    /// `{language}` stands for one of `languages`.
    pub base_url: String,
    /// Editions that are asked; the first one for all other languages. A list, since anybody may name a language.
    pub languages: Vec<String>,
}

impl Default for Wikipedia {
    fn default() -> Self {
        Self {
            base_url: "https://{language}.wikipedia.org".into(),
            languages: ["en", "de", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "vi", "zh"]
                .map(Into::into)
                .into(),
        }
    }
}

/// The key that breaks a rule, and the rule.
pub(super) fn broken(chat: &Chat, search: &Search) -> Option<(&'static str, String)> {
    for (key, count) in [
        ("chat.max_answers", chat.max_answers),
        ("chat.max_output_tokens", chat.max_output_tokens as usize),
        ("search.max_results", search.max_results),
        ("search.max_concurrency", search.max_concurrency),
    ] {
        if count == 0 {
            return Some((key, "must be at least 1".into()));
        }
    }
    for (key, time) in [
        ("chat.timeout", chat.timeout),
        ("search.connect_timeout", search.connect_timeout),
        ("search.timeout", search.timeout),
    ] {
        if time.is_zero() {
            return Some((key, "must not be zero".into()));
        }
    }
    for (key, time) in
        [("chat.history_ttl", chat.history_ttl), ("search.cache_ttl", search.cache_ttl)]
    {
        if time > cache::MAX_TTL {
            return Some((key, "must be at most 7days".into()));
        }
    }
    if chat.history_bytes > cache::MAX_VALUE_BYTES {
        return Some(("chat.history_bytes", format!("must be at most {}", cache::MAX_VALUE_BYTES)));
    }
    if search.max_results > 10 {
        return Some(("search.max_results", "must be at most 10".into()));
    }
    let named = |kind| search.providers.contains(&kind);
    for (at, kind) in search.providers.iter().enumerate() {
        if search.providers[..at].contains(kind) {
            return Some(("search.providers", format!("names {} twice", kind.as_str())));
        }
    }
    if named(SearchKind::SearXng) && search.searxng.base_url.is_none() {
        return Some(("search.searxng.base_url", "must be set, since searxng is named".into()));
    }
    let key = search.tavily.api_key.as_ref();
    if named(SearchKind::Tavily) && key.is_none_or(|key| key.expose_secret().trim().is_empty()) {
        return Some(("search.tavily.api_key", "must be set, since tavily is named".into()));
    }
    let is_code = |code: &String| {
        (2..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    if search.wikipedia.languages.is_empty() || !search.wikipedia.languages.iter().all(is_code) {
        let rule = "must name at least one edition by its language, such as en";
        return Some(("search.wikipedia.languages", rule.into()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &str) -> Search {
        toml::from_str(text).expect("a section")
    }

    #[test]
    fn who_is_named_has_to_be_usable() {
        for (text, key) in [
            ("", None),
            ("providers = [\"wikipedia\"]", None),
            ("providers = [\"searxng\"]", Some("search.searxng.base_url")),
            ("providers = [\"searxng\"]\n[searxng]\nbase_url = \"http://s\"", None),
            ("providers = [\"tavily\"]\n[tavily]\napi_key = \" \"", Some("search.tavily.api_key")),
            ("providers = [\"tavily\"]\n[tavily]\napi_key = \"k\"", None),
            ("providers = [\"wikipedia\", \"wikipedia\"]", Some("search.providers")),
            ("max_results = 0", Some("search.max_results")),
            ("max_results = 11", Some("search.max_results")),
            ("timeout = \"0s\"", Some("search.timeout")),
            ("cache_ttl = \"8days\"", Some("search.cache_ttl")),
            ("[wikipedia]\nlanguages = []", Some("search.wikipedia.languages")),
            ("[wikipedia]\nlanguages = [\"evil.example/\"]", Some("search.wikipedia.languages")),
        ] {
            let broken = broken(&Chat::default(), &search(text));
            assert_eq!(broken.map(|(key, _)| key), key, "{text}");
        }
        let chat = Chat { history_bytes: 100_000, ..Chat::default() };
        let broken = broken(&chat, &Search::default());
        assert_eq!(broken.map(|(key, _)| key), Some("chat.history_bytes"));
        assert!(toml::from_str::<Search>("providers = [\"bing\"]").is_err());
    }
}
