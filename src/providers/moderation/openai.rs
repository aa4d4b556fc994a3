//! OpenAI's `/moderations`, and every server that speaks its format.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};
use reqwest::{RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{ModerationProvider, Verdict};
use crate::providers::remote::address::Base;
use crate::providers::remote::error::Classify;
use crate::providers::remote::{secret, unusable};
use crate::providers::text::{Deadline, ProviderError, ProviderErrorKind};

const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// Longest answer that is read; usual ones have 2 KB.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
/// Unused connections are closed before the minute after which most balancers close them.
const IDLE: Duration = Duration::from_secs(55);

/// What it is built from.
pub struct Settings {
    pub api_key: Option<SecretString>,
    /// Up to and including the version. Set alone it needs no key.
    pub base_url: Option<String>,
    pub model: String,
    /// Scores (0-1) from which on a category blocks; of others the server's own word counts.
    pub thresholds: BTreeMap<String, f64>,
    /// Of a whole call.
    pub timeout: Duration,
    pub max_concurrency: usize,
}

pub struct OpenAiModeration {
    http: reqwest::Client,
    checks_url: String,
    models_url: String,
    model: String,
    thresholds: BTreeMap<String, f64>,
    classify: Classify,
    timeout: Duration,
}

#[derive(Serialize)]
struct Asked<'a> {
    model: &'a str,
    input: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Judged>,
}

#[derive(Deserialize)]
struct Judged {
    flagged: bool,
    /// Some servers say `null` of categories that they do not know.
    #[serde(default)]
    categories: BTreeMap<String, Option<bool>>,
    #[serde(default)]
    category_scores: BTreeMap<String, Option<f64>>,
}

impl OpenAiModeration {
    /// # Errors
    /// `Auth` without a key for OpenAI itself, `BadRequest` for a base URL or key that cannot be used.
    pub fn new(settings: Settings) -> Result<Self, ProviderError> {
        let Settings { api_key, base_url, model, thresholds, timeout, max_concurrency } = settings;
        let key =
            api_key.as_ref().map(|key| key.expose_secret().trim()).filter(|key| !key.is_empty());
        if key.is_none() && base_url.is_none() {
            let message = "neither a key nor a base URL is set";
            return Err(ProviderError::new(ProviderErrorKind::Auth, message));
        }
        let base =
            Base::new(base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?.above("/moderations");
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?);
            if base.host().ends_with(".azure.com") {
                headers.insert(HeaderName::from_static("api-key"), secret(key)?);
            }
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("whatif/", env!("CARGO_PKG_VERSION")))
            .tcp_nodelay(true)
            // A redirected POST arrives as a GET, and the key is not meant for another host.
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(max_concurrency.min(64))
            .build()
            .map_err(|_| unusable("the HTTP client cannot be set up"))?;
        Ok(Self {
            http,
            checks_url: base.join("moderations"),
            models_url: base.join("models"),
            model,
            thresholds,
            classify: Classify::new(key),
            timeout,
        })
    }

    /// The whole body of an answer that is no error.
    async fn call(&self, request: RequestBuilder) -> Result<Vec<u8>, ProviderError> {
        let answer = async {
            let mut response =
                request.send().await.map_err(|error| self.classify.transport(&error))?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = self.body(&mut response).await?;
            if status.is_success() {
                return Ok(body);
            }
            let text = String::from_utf8_lossy(&body);
            Err(self.classify.status(status.as_u16(), &headers, &text).error)
        };
        let late = || {
            let kind = ProviderErrorKind::Timeout(Deadline::Whole);
            Err(ProviderError::new(kind, "no verdict in time"))
        };
        tokio::time::timeout(self.timeout, answer).await.unwrap_or_else(|_| late())
    }

    async fn body(&self, response: &mut Response) -> Result<Vec<u8>, ProviderError> {
        let mut body = Vec::new();
        while let Some(piece) =
            response.chunk().await.map_err(|error| self.classify.transport(&error))?
        {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                return Err(self.classify.protocol("an answer without end", &"").error);
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn read(&self, body: &[u8]) -> Result<Verdict, ProviderError> {
        let strange = |error: &dyn std::fmt::Display| {
            self.classify.protocol("an answer that is no verdict", &error.to_string()).error
        };
        let answer: Answer = serde_json::from_slice(body).map_err(|error| strange(&error))?;
        if answer.results.is_empty() {
            return Err(strange(&"no results"));
        }
        let blocked = answer.results.iter().find_map(|judged| judged.category(&self.thresholds));
        Ok(match blocked {
            Some(category) => Verdict::Blocked { category },
            None => Verdict::Allowed,
        })
    }
}

impl Judged {
    /// The category that blocks with the highest score.
    fn category(&self, thresholds: &BTreeMap<String, f64>) -> Option<String> {
        let score = |name: &str| self.category_scores.get(name).copied().flatten();
        let names = self.categories.keys().chain(self.category_scores.keys());
        let blocks = |name: &&String| match (thresholds.get(*name), score(name)) {
            (Some(threshold), Some(score)) => score >= *threshold,
            _ => self.categories.get(*name).copied().flatten().unwrap_or(false),
        };
        let worst = names
            .filter(blocks)
            .max_by(|one, other| score(one).unwrap_or(0.0).total_cmp(&score(other).unwrap_or(0.0)));
        // Flagged for a reason that is not told. With one that is, thresholds have the last word.
        let told = self.categories.values().any(|flag| flag.unwrap_or(false));
        worst.cloned().or_else(|| (self.flagged && !told).then(|| "unspecified".to_owned()))
    }
}

#[async_trait]
impl ModerationProvider for OpenAiModeration {
    fn name(&self) -> &str {
        "openai"
    }

    async fn check(&self, text: &str) -> Result<Verdict, ProviderError> {
        let asked = Asked { model: &self.model, input: text };
        let body = self.call(self.http.post(&self.checks_url).json(&asked)).await?;
        self.read(&body)
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        match self.call(self.http.get(&self.models_url)).await {
            Ok(_) => Ok(()),
            // Many servers lack this route: that they say so proves that they live.
            Err(error) if !error.kind.is_dependency_failure() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checker(thresholds: &[(&str, f64)]) -> OpenAiModeration {
        OpenAiModeration::new(Settings {
            api_key: None,
            base_url: Some("http://h/v1".into()),
            model: "m".into(),
            thresholds: thresholds.iter().map(|(name, at)| ((*name).into(), *at)).collect(),
            timeout: Duration::from_secs(1),
            max_concurrency: 1,
        })
        .unwrap()
    }

    #[test]
    fn verdicts_are_read_with_thresholds_where_there_are_any() {
        let both = json!({
            "flagged": true,
            "categories": {"violence": true, "hate": true, "sexual": false, "illicit": null},
            "category_scores": {"violence": 0.6, "hate": 0.8, "sexual": 0.3},
        });
        let quiet = json!({
            "flagged": false,
            "categories": {"violence": false, "sexual": false},
            "category_scores": {"violence": 0.4, "sexual": 0.01},
        });
        for (name, result, thresholds, category) in [
            ("worst", &both, &[][..], Some("hate")),
            ("stricter", &quiet, &[("violence", 0.3)], Some("violence")),
            ("laxer", &both, &[("hate", 0.9)], Some("violence")),
            ("all laxer", &both, &[("hate", 0.9), ("violence", 0.9)], None),
            (
                "without a score",
                &json!({"flagged": true, "categories": {"hate": true}}),
                &[("hate", 0.9)],
                Some("hate"),
            ),
            ("quiet", &quiet, &[], None),
            ("no reason", &json!({"flagged": true}), &[], Some("unspecified")),
        ] {
            let body = json!({"id": "x", "results": [result]}).to_string();
            let want = match category {
                Some(category) => Verdict::Blocked { category: category.into() },
                None => Verdict::Allowed,
            };
            assert_eq!(checker(thresholds).read(body.as_bytes()).unwrap(), want, "{name}");
        }
    }

    #[test]
    fn what_is_no_verdict_is_an_error() {
        for body in ["", "{}", "{\"results\":[]}", "{\"results\":[{}]}", "<html>"] {
            let error = checker(&[]).read(body.as_bytes()).unwrap_err();
            assert_eq!(error.kind, ProviderErrorKind::Protocol, "{body}");
        }
    }
}
