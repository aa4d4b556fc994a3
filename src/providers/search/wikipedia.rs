//! Wikipedia, or another MediaWiki with extracts: a full-text search, and the beginnings of the articles that it finds, in
//! one call of the Action API.

use async_trait::async_trait;
use reqwest::Url;
use serde::Deserialize;

use super::client::Client;
use super::{Found, SNIPPET_CHARS, SearchProvider, SearchQuery};
use crate::config;
use crate::providers::remote::address::Base;
use crate::providers::remote::unusable;
use crate::providers::text::{ProviderError, ProviderErrorKind};

pub(super) struct Wikipedia {
    client: Client,
    /// By language; the first one for all others.
    editions: Vec<(String, Url)>,
}

#[derive(Deserialize)]
struct Answer {
    /// Absent if nothing was found.
    query: Option<Query>,
    /// With status 200.
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    pages: Vec<Page>,
}

#[derive(Deserialize)]
struct Page {
    /// Its place among what was found; pages come in another order.
    #[serde(default)]
    index: u32,
    #[serde(default)]
    title: String,
    #[serde(default)]
    fullurl: String,
    #[serde(default)]
    extract: String,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
}

impl Wikipedia {
    /// # Errors
    /// `BadRequest` without an HTTP address.
    pub(super) fn new(client: Client, config: &config::Wikipedia) -> Result<Self, ProviderError> {
        let edition = |language: &String| {
            let base = Base::new(&config.base_url.replace("{language}", language))?;
            let url = Url::parse(&base.join("w/api.php"));
            Ok((language.clone(), url.map_err(|_| unusable("the base URL cannot be used"))?))
        };
        let editions = config.languages.iter().map(edition).collect::<Result<Vec<_>, _>>()?;
        if editions.is_empty() {
            return Err(unusable("there is no edition to ask"));
        }
        Ok(Self { client, editions })
    }

    /// Never made from a reader's words: a language is looked up, not put into an address.
    fn edition(&self, language: &str) -> Url {
        let of = |(known, _): &&(String, Url)| known.eq_ignore_ascii_case(language);
        self.editions.iter().find(of).unwrap_or(&self.editions[0]).1.clone()
    }
}

#[async_trait]
impl SearchProvider for Wikipedia {
    fn name(&self) -> &'static str {
        "wikipedia"
    }

    async fn search(&self, query: &SearchQuery) -> Result<Vec<Found>, ProviderError> {
        let mut url = self.edition(query.primary_language());
        url.query_pairs_mut()
            .append_pair("action", "query")
            .append_pair("format", "json")
            .append_pair("formatversion", "2")
            .append_pair("generator", "search")
            .append_pair("gsrsearch", &query.text)
            .append_pair("gsrlimit", &query.most.to_string())
            .append_pair("prop", "extracts|info")
            .append_pair("inprop", "url")
            .append_pair("exintro", "1")
            .append_pair("explaintext", "1")
            .append_pair("exlimit", "max")
            .append_pair("exchars", &SNIPPET_CHARS.to_string());
        let answer: Answer = self.client.json(self.client.get(url)).await?;
        if let Some(refusal) = answer.error {
            return Err(refused(&refusal.code));
        }
        let mut pages = answer.query.map_or_else(Vec::new, |query| query.pages);
        pages.sort_by_key(|page| page.index);
        let found = pages.iter();
        let found = found.filter_map(|page| Found::new(&page.title, &page.fullurl, &page.extract));
        Ok(found.take(query.most).collect())
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        let mut url = self.editions[0].1.clone();
        url.query_pairs_mut().append_pair("action", "query").append_pair("meta", "siteinfo");
        url.query_pairs_mut().append_pair("format", "json");
        self.client.reaches(self.client.get(url)).await
    }
}

fn refused(code: &str) -> ProviderError {
    let kind = match code {
        "ratelimited" | "maxlag" => ProviderErrorKind::RateLimited { retry_after: None },
        "readonly" => ProviderErrorKind::Overloaded { retry_after: None },
        code if code.starts_with("internal_api_error") || code.contains("search-error") => {
            ProviderErrorKind::Overloaded { retry_after: None }
        }
        _ => ProviderErrorKind::BadRequest,
    };
    let code: String = code.chars().take(60).collect();
    ProviderError::new(kind, format!("refused with {code}"))
}
