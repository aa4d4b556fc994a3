//! OpenAI and every server that speaks its chat-completions format.
//!
//! `wire` is the format, `frames` takes a body apart into events, `stream` makes text of them under deadlines, `error` has
//! the failures by class; here are admission, the call and its retry before the first text. It knows nothing of the turn
//! format. Every token of every reader passes through here, so nothing on its way is copied or allocated but its text.

mod error;
mod frames;
mod stream;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use rand::RngExt;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use secrecy::ExposeSecret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::error::{Classify, Failure};
use self::stream::{Deadlines, Relay, Watch};
use super::prompt;
use super::text::{ProviderError, ProviderErrorKind, StoryRequest, TextProvider, TextStream};
use crate::config;

const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// How long a call waits for another one to end before it is refused.
const ADMISSION_WAIT: Duration = Duration::from_millis(200);
/// First wait between two tries; doubled each time, with jitter.
const BACKOFF: Duration = Duration::from_millis(250);
/// Longest wait between two tries. A vendor that asks for more is left to the caller, who has other providers.
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Unused connections are closed before the minute after which most balancers close them.
const IDLE: Duration = Duration::from_secs(55);
/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// One vendor account or server. Cheap to share, not to clone: its permits are its concurrency limit.
pub struct OpenAiProvider {
    http: reqwest::Client,
    chat_url: String,
    models_url: String,
    model: String,
    max_output_tokens: u32,
    temperature: f64,
    max_attempts: u32,
    deadlines: Deadlines,
    permits: Arc<Semaphore>,
    classify: Classify,
}

impl OpenAiProvider {
    /// # Errors
    /// `Auth` without a key for OpenAI itself, `BadRequest` for a base URL or key that cannot be used.
    pub fn new(config: &config::OpenAi) -> Result<Self, ProviderError> {
        let unusable = |message: &str| ProviderError::new(ProviderErrorKind::BadRequest, message);
        if !config.is_configured() {
            return Err(ProviderError::new(
                ProviderErrorKind::Auth,
                "neither a key nor a base URL is set",
            ));
        }
        let base = Base::parse(config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))
            .ok_or_else(|| unusable("the base URL is not an http or https URL"))?;

        let key = config.api_key.as_ref().map(|key| key.expose_secret().trim());
        let mut headers = HeaderMap::new();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("whatif/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(key) = key.filter(|key| !key.is_empty()) {
            let secret = |value: &str| {
                let mut value = HeaderValue::from_str(value)
                    .map_err(|_| unusable("the key has characters no header can carry"))?;
                value.set_sensitive(true);
                Ok::<_, ProviderError>(value)
            };
            headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?);
            if base.is_azure() {
                headers.insert(HeaderName::from_static("api-key"), secret(key)?);
            }
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            // A compressing proxy would hold text back, and one connection for all calls would let one delay the others.
            .no_gzip()
            .http1_only()
            // A redirected POST arrives as a GET, and the key is not meant for another host.
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(config.max_concurrency.min(64))
            .build()
            .map_err(|_| unusable("the HTTP client cannot be set up"))?;

        Ok(Self {
            http,
            chat_url: base.join("chat/completions"),
            models_url: base.join("models"),
            model: config.model.clone(),
            max_output_tokens: config.max_output_tokens,
            temperature: config.temperature,
            max_attempts: config.max_attempts.max(1),
            deadlines: Deadlines {
                first_byte: config.first_byte_timeout,
                between_bytes: config.between_bytes_timeout,
                whole: config.whole_timeout,
            },
            permits: Arc::new(Semaphore::new(
                config.max_concurrency.clamp(1, Semaphore::MAX_PERMITS),
            )),
            classify: Classify::new(key),
        })
    }

    async fn admit(&self) -> Result<OwnedSemaphorePermit, ProviderError> {
        let permits = Arc::clone(&self.permits);
        match tokio::time::timeout(ADMISSION_WAIT, permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(ProviderError::new(
                ProviderErrorKind::Overloaded { retry_after: Some(Duration::from_secs(1)) },
                "as many calls as allowed are running",
            )),
        }
    }

    /// One call, up to its first text or its end.
    async fn attempt(
        &self,
        call: Bytes,
        input_bytes: usize,
        started: Instant,
    ) -> Result<Relay, Failure> {
        let watch = Watch::new(self.deadlines, started);
        let answer = tokio::time::timeout_at(watch.first_until(), self.answer(call)).await;
        let body = answer.map_err(|_| watch.missed_first())??;
        let mut relay = Relay::new(body, watch, input_bytes, self.classify.clone());
        relay.first_text().await?;
        Ok(relay)
    }

    /// The body of an answer that is no error.
    async fn answer(&self, call: Bytes) -> Result<reqwest::Body, Failure> {
        let request = self
            .http
            .post(&self.chat_url)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(call);
        let mut response = request.send().await.map_err(|error| self.classify.transport(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into());
        }
        let mut body = Vec::new();
        while body.len() < MAX_ERROR_BYTES
            && let Ok(Some(piece)) = response.chunk().await
        {
            body.extend_from_slice(&piece[..piece.len().min(MAX_ERROR_BYTES - body.len())]);
        }
        let body = String::from_utf8_lossy(&body);
        Err(self.classify.status(status.as_u16(), response.headers(), &body))
    }
}

#[async_trait]
impl TextProvider for OpenAiProvider {
    fn name(&self) -> &str {
        "openai"
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn max_output_tokens(&self) -> Option<u64> {
        Some(self.max_output_tokens.into())
    }

    async fn open(&self, request: StoryRequest) -> Result<TextStream, ProviderError> {
        let permit = self.admit().await?;
        let model = request.model.as_deref().unwrap_or(&self.model);
        let messages = prompt::messages(&request);
        let input_bytes = messages.iter().map(|message| message.content.len()).sum();
        let call = wire::call(model, &messages, self.max_output_tokens, self.temperature)
            .map(Bytes::from)
            .map_err(|error| {
                ProviderError::new(ProviderErrorKind::BadRequest, error.to_string())
            })?;
        let started = Instant::now();
        let mut tries = 1;
        loop {
            match self.attempt(call.clone(), input_bytes, started).await {
                Ok(relay) => return Ok(relay.holding(permit).boxed()),
                Err(failure) => {
                    let left = self.deadlines.whole.saturating_sub(started.elapsed());
                    let wait = failure
                        .wait(tries)
                        .filter(|wait| tries < self.max_attempts && *wait < left);
                    let Some(wait) = wait else { return Err(failure.error) };
                    // Said aloud: the vendor may charge for a try that reached it, even if no text of it came back.
                    tracing::info!(provider = "openai", error = %failure.error, tries, wait_ms = wait.as_millis(), "trying again");
                    tokio::time::sleep(wait).await;
                    tries += 1;
                }
            }
        }
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        let request =
            self.http.get(&self.models_url).timeout(PROBE_TIMEOUT.min(self.deadlines.first_byte));
        let response = request.send().await.map_err(|error| self.classify.transport(&error))?;
        match response.status().as_u16() {
            // Many servers lack this route: that they say so proves that they live.
            status @ (401 | 403 | 429 | 500..) => {
                Err(self.classify.status(status, response.headers(), "").error)
            }
            _ => Ok(()),
        }
    }
}

impl Failure {
    /// How long to wait before the next try; `None` if there shall be none.
    fn wait(&self, tries: u32) -> Option<Duration> {
        if !self.again {
            return None;
        }
        let longest = BACKOFF.saturating_mul(1 << tries.min(8)).min(LONGEST_BACKOFF);
        let jittered = longest.mul_f64(rand::rng().random_range(0.5..=1.0));
        match self.error.kind {
            ProviderErrorKind::RateLimited { retry_after: Some(asked) }
            | ProviderErrorKind::Overloaded { retry_after: Some(asked) } => {
                (asked <= LONGEST_BACKOFF).then(|| asked + jittered / 10)
            }
            _ => Some(jittered),
        }
    }
}

/// Where the server is, as configured: nothing is added but the routes.
struct Base(reqwest::Url);

impl Base {
    fn parse(text: &str) -> Option<Self> {
        let mut url = reqwest::Url::parse(text.trim()).ok()?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return None;
        }
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/');
        let path =
            path.strip_suffix("/chat/completions").unwrap_or(path).trim_end_matches('/').to_owned();
        url.set_path(&path);
        Some(Self(url))
    }

    /// The query stays (Azure's `api-version`).
    fn join(&self, route: &str) -> String {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{route}", self.0.path().trim_end_matches('/')));
        url.into()
    }

    fn is_azure(&self) -> bool {
        self.0.host_str().is_some_and(|host| host.ends_with(".azure.com"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_used_as_given() {
        for (base, chat) in [
            ("http://h:1/v1", "http://h:1/v1/chat/completions"),
            ("http://h:1/v1/", "http://h:1/v1/chat/completions"),
            (" http://h:1 ", "http://h:1/chat/completions"),
            ("https://h/a/b//", "https://h/a/b/chat/completions"),
            ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
            (
                "https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
                "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            ),
        ] {
            assert_eq!(
                Base::parse(base).map(|base| base.join("chat/completions")).as_deref(),
                Some(chat),
                "{base}"
            );
        }
        for base in ["", "h:1/v1", "ftp://h/v1", "localhost", "file:///v1"] {
            assert!(Base::parse(base).is_none(), "{base}");
        }
    }

    #[test]
    fn without_key_and_base_url_there_is_no_provider() {
        let error = OpenAiProvider::new(&config::OpenAi::default()).err().map(|error| error.kind);
        assert_eq!(error, Some(ProviderErrorKind::Auth));
    }

    #[test]
    fn waits_grow_stay_bounded_and_follow_the_vendor() {
        let failure = |kind, again| Failure { error: ProviderError::new(kind, ""), again };
        let network = failure(ProviderErrorKind::Network, true);
        for (tries, longest_ms) in [(1, 500), (2, 1_000), (9, 5_000), (u32::MAX, 5_000)] {
            let wait = network.wait(tries).expect("another try").as_millis();
            assert!((longest_ms / 2..=longest_ms).contains(&wait), "{tries}: {wait}");
        }
        let limited = |secs| {
            let kind =
                ProviderErrorKind::RateLimited { retry_after: Some(Duration::from_secs(secs)) };
            failure(kind, true).wait(1)
        };
        assert!(limited(2).is_some_and(|wait| wait >= Duration::from_secs(2)));
        assert_eq!(limited(60), None);
        assert_eq!(failure(ProviderErrorKind::Auth, false).wait(1), None);
    }
}
