//! The search capability: find what the world knows of something, for the chat companion.
//!
//! Called by the workers of the chat service's pools. A vendor's file knows where to ask and what an answer looks like;
//! `client.rs` is what they share: deadlines, bounds, failures by class. Only configured addresses are ever asked. What is
//! found is quoted to models and readers as text; nobody here follows an address that was found.

mod client;
mod plain;
mod searxng;
mod tavily;
mod wikipedia;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Url;
use serde::{Deserialize, Serialize};

use self::client::Client;
use self::plain::plain;
use super::text::ProviderError;
use crate::config::{Search, SearchKind};

/// Longest title and snippet, in characters.
const TITLE_CHARS: usize = 160;
const SNIPPET_CHARS: usize = 500;
const MAX_URL_BYTES: usize = 2_048;

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SearchQuery {
    /// One line of words.
    pub text: String,
    /// BCP 47 tag.
    pub language: String,
    /// Most things to be found.
    pub most: usize,
}

impl SearchQuery {
    /// The language alone: `pt` of `pt-BR`.
    fn primary_language(&self) -> &str {
        self.language.split('-').next().unwrap_or_default()
    }
}

/// Something that was found. Title and snippet are bounded plain text without any markup; the address is one of http(s).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub title: String,
    pub url: String,
    pub snippet: String,
}

impl Found {
    /// `None` for what says nothing, or lies where no browser should be sent.
    fn new(title: &str, url: &str, snippet: &str) -> Option<Self> {
        let url = Url::parse(url.trim()).ok()?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
        // Credentials before a host make one address look like another.
        let is_plain = url.username().is_empty() && url.password().is_none();
        let (title, snippet) = (plain(title, TITLE_CHARS), plain(snippet, SNIPPET_CHARS));
        let url = String::from(url);
        let shown = is_web && is_plain && url.len() <= MAX_URL_BYTES && !snippet.is_empty();
        shown.then_some(Self { title, url, snippet })
    }
}

/// # Errors
/// Every method: [`ProviderError`], as of a text provider; none of its texts has a secret.
#[async_trait]
pub trait SearchProvider: Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// The best first; nothing found is an empty list.
    async fn search(&self, query: &SearchQuery) -> Result<Vec<Found>, ProviderError>;

    /// Cheap round trip that tells whether the vendor answers.
    async fn probe(&self) -> Result<(), ProviderError>;
}

/// The provider of this kind, as configured. Nothing is asked over the network yet.
///
/// # Errors
/// `Auth` without credentials, `BadRequest` for an address or a key that cannot be used.
pub fn search_provider(
    kind: SearchKind,
    config: &Search,
) -> Result<Arc<dyn SearchProvider>, ProviderError> {
    let client = Client::new(config)?;
    Ok(match kind {
        SearchKind::SearXng => Arc::new(searxng::SearXng::new(client, &config.searxng)?),
        SearchKind::Tavily => Arc::new(tavily::Tavily::new(client, &config.tavily)?),
        SearchKind::Wikipedia => Arc::new(wikipedia::Wikipedia::new(client, &config.wikipedia)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_browser_may_open_is_found() {
        for (url, kept) in [
            ("https://example.org/a?b=c", true),
            (" http://example.org ", true),
            ("javascript:alert(1)", false),
            ("data:text/html,x", false),
            ("file:///etc/passwd", false),
            ("https://bank.example@evil.example/", false),
            ("/relative", false),
            ("", false),
        ] {
            assert_eq!(Found::new("T", url, "S").is_some(), kept, "{url}");
        }
        let long = format!("https://example.org/{}", "x".repeat(3_000));
        assert_eq!(Found::new("T", &long, "S"), None);
        assert_eq!(Found::new("T", "https://example.org", "<b> </b>"), None, "it says nothing");
        let found = Found::new("<b>T</b>", "https://example.org", &"é".repeat(900)).unwrap();
        assert_eq!((found.title.as_str(), found.snippet.chars().count()), ("T", SNIPPET_CHARS));
    }
}
