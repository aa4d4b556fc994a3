//! SearXNG, a search of searches that one runs oneself: `GET /search?format=json`.

use async_trait::async_trait;
use reqwest::Url;
use serde::Deserialize;

use super::client::Client;
use super::{Found, SearchProvider, SearchQuery};
use crate::config;
use crate::providers::remote::address::Base;
use crate::providers::remote::unusable;
use crate::providers::text::ProviderError;

pub(super) struct SearXng {
    client: Client,
    search: Url,
    health: Url,
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
    /// Some engines have none.
    content: Option<String>,
}

impl SearXng {
    /// # Errors
    /// `BadRequest` without an HTTP address.
    pub(super) fn new(client: Client, config: &config::SearXng) -> Result<Self, ProviderError> {
        let base = Base::new(config.base_url.as_deref().unwrap_or_default())?.above("/search");
        let route = |route: &str| {
            Url::parse(&base.join(route)).map_err(|_| unusable("the base URL cannot be used"))
        };
        Ok(Self { client, search: route("search")?, health: route("healthz")? })
    }
}

#[async_trait]
impl SearchProvider for SearXng {
    fn name(&self) -> &'static str {
        "searxng"
    }

    async fn search(&self, query: &SearchQuery) -> Result<Vec<Found>, ProviderError> {
        let mut url = self.search.clone();
        url.query_pairs_mut()
            .append_pair("q", &query.text)
            .append_pair("format", "json")
            .append_pair("language", query.primary_language())
            .append_pair("safesearch", "1");
        let answer: Answer = self.client.json(self.client.get(url)).await?;
        let found = answer.results.iter().filter_map(|hit| {
            Found::new(&hit.title, &hit.url, hit.content.as_deref().unwrap_or_default())
        });
        // It has no parameter for how many.
        Ok(found.take(query.most).collect())
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        self.client.reaches(self.client.get(self.health.clone())).await
    }
}
