//! Tavily, a search made for language models: `POST /search`.

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::{Found, SearchProvider, SearchQuery};
use crate::config;
use crate::providers::remote::address::Base;
use crate::providers::remote::{secret, unusable};
use crate::providers::text::{ProviderError, ProviderErrorKind};

pub(super) struct Tavily {
    client: Client,
    search: Url,
    usage: Url,
    key: HeaderValue,
}

#[derive(Serialize)]
struct Question<'a> {
    query: &'a str,
    max_results: usize,
    /// The deeper one costs twice as much and takes seconds.
    search_depth: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    results: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(default)]
    title: String,
    #[serde(default)]
    url: String,
    #[serde(default)]
    content: String,
}

impl Tavily {
    /// # Errors
    /// `Auth` without a key, `BadRequest` for an address or a key that cannot be used.
    pub(super) fn new(client: Client, config: &config::Tavily) -> Result<Self, ProviderError> {
        let key = config.api_key.as_ref().map(|key| key.expose_secret().trim());
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            return Err(ProviderError::new(ProviderErrorKind::Auth, "there is no key"));
        };
        let base = Base::new(&config.base_url)?.above("/search");
        let route = |route: &str| {
            Url::parse(&base.join(route)).map_err(|_| unusable("the base URL cannot be used"))
        };
        let key = secret(&format!("Bearer {key}"))?;
        Ok(Self { client, search: route("search")?, usage: route("usage")?, key })
    }
}

#[async_trait]
impl SearchProvider for Tavily {
    fn name(&self) -> &'static str {
        "tavily"
    }

    async fn search(&self, query: &SearchQuery) -> Result<Vec<Found>, ProviderError> {
        let question =
            Question { query: &query.text, max_results: query.most, search_depth: "basic" };
        let request = self.client.post(self.search.clone()).header(AUTHORIZATION, &self.key);
        let answer: Answer = self.client.json(request.json(&question)).await?;
        let found = answer.results.iter();
        let found = found.filter_map(|hit| Found::new(&hit.title, &hit.url, &hit.content));
        Ok(found.take(query.most).collect())
    }

    /// Asks what was used, which costs nothing.
    async fn probe(&self) -> Result<(), ProviderError> {
        let request = self.client.get(self.usage.clone()).header(AUTHORIZATION, &self.key);
        self.client.reaches(request).await
    }
}
