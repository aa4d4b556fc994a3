//! What all vendors across the network have in common: admission, the call and its retry before the first text, deadlines,
//! failures by class, the stream of a running call.
//!
//! `address` says where a vendor is, `retry` when a call is made again, `error` what its failures mean, `wire`, `sse` and `lines` take a
//! body apart, `said` keeps what its events said, `relay` makes a stream of text of them. What differs - the words of a
//! call and of an answer - is a [`Vendor`]. Every token of every reader passes through here, so nothing on its way is
//! copied or allocated but its text.

pub(super) mod address;
pub(super) mod error;
pub(super) mod lines;
mod relay;
mod retry;
pub(super) mod said;
pub(super) mod sse;
pub(super) mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use self::error::{Classify, Failure};
use self::relay::{Deadlines, Relay, Watch};
use self::retry::Retries;
use self::said::{Meter, Said};
use self::wire::Wire;
use super::prompt::{self, Message, Role};
use super::text::{
    Price, ProviderError, ProviderErrorKind, StoryRequest, Talk, TextProvider, TextStream,
};
use crate::config::{self, Continuation};

/// How long a call waits for another one to end before it is refused.
const ADMISSION_WAIT: Duration = Duration::from_millis(200);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Unused connections are closed before the minute after which most balancers close them.
const IDLE: Duration = Duration::from_secs(55);
/// Most bytes of an error's body that are read.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// What is asked of a model, in no vendor's words yet.
pub(super) struct Ask<'a> {
    pub model: &'a str,
    /// Roles alternate; the first is the system's.
    pub messages: &'a [Message],
    /// The last message is the model's own, to be gone on with in place.
    pub prefilled: bool,
    pub max_output_tokens: u32,
    /// The JSON schema that the answer must keep.
    pub schema: Option<&'a serde_json::Value>,
    /// `None`: the vendor's default, or whatever the model insists on.
    pub temperature: Option<f64>,
}

impl Ask<'_> {
    /// What the system says, and the conversation after it.
    pub(super) fn split(&self) -> (&str, &[Message]) {
        match self.messages.split_first() {
            Some((first, rest)) if first.role == Role::System => (&first.content, rest),
            _ => ("", self.messages),
        }
    }
}

/// How a scene, or the rest of one, is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// In words alone.
    Asked,
    /// With the model's own words to go on with.
    Prefilled,
    /// As an object that keeps a schema.
    Constrained,
}

/// One HTTP request. Cheap to clone: a second try sends the same bytes.
#[derive(Clone)]
pub(super) struct Call {
    pub method: Method,
    pub url: String,
    pub body: Bytes,
}

impl Call {
    pub(super) fn get(url: String) -> Self {
        Self { method: Method::GET, url, body: Bytes::new() }
    }

    /// # Errors
    /// If the body cannot be written as JSON, which no text can cause.
    pub(super) fn post(url: String, body: &impl serde::Serialize) -> Result<Self, ProviderError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            ProviderError::new(ProviderErrorKind::BadRequest, error.to_string())
        })?;
        Ok(Self { method: Method::POST, url, body: body.into() })
    }
}

/// What one vendor does its own way.
pub(super) trait Vendor: Send + Sync + 'static {
    type Wire: Wire;

    /// What goes with every call; credentials marked as sensitive.
    fn headers(&self) -> HeaderMap {
        HeaderMap::new()
    }

    /// # Errors
    /// `BadRequest` if it cannot be put into the vendor's words.
    fn call(&self, ask: &Ask<'_>) -> Result<Call, ProviderError>;

    /// A cheap call that needs credentials.
    ///
    /// # Errors
    /// As for [`Vendor::call`].
    fn probe(&self) -> Result<Call, ProviderError>;

    /// The reader of one answer.
    fn wire(&self) -> Self::Wire;

    /// Whether an answer can be held to a JSON schema.
    fn constrains(&self) -> bool {
        false
    }

    /// Whether this model goes on with a last message of its own, if nothing is configured.
    fn prefills(&self, model: &str) -> bool;

    /// What proves who makes this very call, where a header that is always the same does not.
    fn sign(&self, call: &Call) -> impl Future<Output = Result<HeaderMap, ProviderError>> + Send {
        let _ = call;
        std::future::ready(Ok(HeaderMap::new()))
    }
}

/// One vendor account or server. Cheap to share, not to clone: its permits are its concurrency limit.
pub(super) struct Remote<V> {
    name: Arc<str>,
    vendor: V,
    http: reqwest::Client,
    model: String,
    models: Vec<String>,
    continuation: Continuation,
    max_output_tokens: u32,
    temperature: Option<f64>,
    price: Price,
    retries: Retries,
    deadlines: Deadlines,
    permits: Arc<Semaphore>,
    classify: Classify,
}

impl<V: Vendor> Remote<V> {
    /// # Errors
    /// `BadRequest` if no HTTP client can be set up.
    pub(super) fn new(
        name: &str,
        config: &config::Vendor,
        vendor: V,
    ) -> Result<Self, ProviderError> {
        let mut headers = vendor.headers();
        let agent = concat!("whatif/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
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
            name: name.into(),
            vendor,
            http,
            model: config.model.clone(),
            models: config.all_models(),
            continuation: config.continuation,
            max_output_tokens: config.max_output_tokens,
            temperature: config.temperature,
            price: Price {
                input: config.input_price,
                cached_input: config.cached_input_price,
                output: config.output_price,
            },
            retries: Retries::new(config),
            deadlines: Deadlines {
                first_byte: config.first_byte_timeout,
                between_bytes: config.between_bytes_timeout,
                whole: config.whole_timeout,
            },
            permits: Arc::new(Semaphore::new(
                config.max_concurrency.clamp(1, Semaphore::MAX_PERMITS),
            )),
            classify: Classify::new(config.secrets().map(|secret| secret.expose_secret())),
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

    /// Whether to have the model go on in place, after its own words, rather than ask it to.
    fn prefills(&self, request: &StoryRequest, model: &str) -> bool {
        let wanted = match self.continuation {
            Continuation::Auto => self.vendor.prefills(model),
            Continuation::Prefill => true,
            Continuation::Ask => false,
        };
        // What is to follow a whole scene is better said than left to be guessed.
        wanted && !request.prose_done && !request.shown.trim().is_empty()
    }

    /// The call that goes on with a conversation, and who is to listen to its answer.
    fn prepare_talk(&self, talk: &Talk) -> Result<(Call, Said), ProviderError> {
        let call = self.vendor.call(&Ask {
            model: talk.model.as_deref().unwrap_or(&self.model),
            messages: &talk.messages,
            prefilled: false,
            max_output_tokens: self.max_output_tokens.min(talk.max_output_tokens),
            schema: None,
            temperature: self.temperature,
        })?;
        let input_bytes = talk.messages.iter().map(|message| message.content.len()).sum();
        let meter = Meter::new(Arc::clone(&self.name), self.price, input_bytes);
        Ok((call, Said::new(self.classify.clone(), meter, false)))
    }

    /// The call for the scene, and who is to listen to its answer.
    fn prepare(&self, request: &StoryRequest, form: Form) -> Result<(Call, Said), ProviderError> {
        let model = request.model.as_deref().unwrap_or(&self.model);
        let prefilled = form == Form::Prefilled;
        let messages = match form {
            Form::Asked => prompt::messages(request),
            Form::Prefilled => prompt::prefilled(request),
            Form::Constrained => prompt::rest_as_object(request),
        };
        let schema = (form == Form::Constrained).then(prompt::rest_schema);
        let call = self.vendor.call(&Ask {
            model,
            messages: &messages,
            prefilled,
            max_output_tokens: self.max_output_tokens,
            schema: schema.as_ref(),
            temperature: self.temperature,
        })?;
        let input_bytes = messages.iter().map(|message| message.content.len()).sum();
        let meter = Meter::new(Arc::clone(&self.name), self.price, input_bytes);
        // A prefill cannot end in white space, so what the model writes of it is there already.
        let spaced = prefilled && request.shown.ends_with(char::is_whitespace);
        Ok((call, Said::new(self.classify.clone(), meter, spaced)))
    }

    /// One call, up to its first text or its end.
    async fn attempt(
        &self,
        call: Call,
        said: Said,
        started: Instant,
    ) -> Result<Relay<V::Wire>, Failure> {
        let watch = Watch::new(self.deadlines, started);
        let answer = tokio::time::timeout_at(watch.first_until(), self.answer(call)).await;
        let response = answer.map_err(|_| watch.missed_first())??;
        let mut relay = Relay::new(response.into(), self.vendor.wire(), watch, said);
        relay.first_text().await?;
        Ok(relay)
    }

    /// An answer that is no error.
    async fn answer(&self, call: Call) -> Result<Response, Failure> {
        let signature = self.vendor.sign(&call).await?;
        let mut request = self.http.request(call.method, &call.url).headers(signature);
        if !call.body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            request = request.header(CONTENT_TYPE, json).body(call.body);
        }
        let mut response = request.send().await.map_err(|error| self.classify.transport(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
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
impl<V: Vendor> TextProvider for Remote<V> {
    fn name(&self) -> &str {
        &self.name
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn models(&self) -> Vec<String> {
        self.models.clone()
    }

    fn constrains(&self) -> bool {
        self.vendor.constrains()
    }

    fn price(&self) -> Price {
        self.price
    }

    fn max_output_tokens(&self) -> Option<u64> {
        Some(self.max_output_tokens.into())
    }

    async fn open(&self, request: StoryRequest) -> Result<TextStream, ProviderError> {
        let model = request.model.as_deref().unwrap_or(&self.model);
        let form = match self.prefills(&request, model) {
            true => Form::Prefilled,
            false if request.prose_done && self.vendor.constrains() => Form::Constrained,
            false => Form::Asked,
        };
        self.call(form, |form| self.prepare(&request, form)).await
    }

    async fn converse(&self, talk: Talk) -> Result<TextStream, ProviderError> {
        self.call(Form::Asked, |_| self.prepare_talk(&talk)).await
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        let limit = PROBE_TIMEOUT.min(self.deadlines.first_byte);
        let call = self.vendor.probe()?;
        let answer = tokio::time::timeout(limit, self.answer(call)).await;
        match answer.unwrap_or_else(|_| Err(relay::missed_probe())) {
            Ok(_) => Ok(()),
            // Many servers lack this route: that they say so proves that they live.
            Err(failure) if !failure.error.kind.is_dependency_failure() => Ok(()),
            Err(failure) => Err(failure.error),
        }
    }
}

impl<V: Vendor> Remote<V> {
    /// Makes a call, again where that may help, up to its first text.
    async fn call(
        &self,
        mut form: Form,
        prepare: impl Fn(Form) -> Result<(Call, Said), ProviderError>,
    ) -> Result<TextStream, ProviderError> {
        let permit = self.admit().await?;
        let started = Instant::now();
        self.retries.deposit();
        let mut tries = 1;
        loop {
            let (call, said) = prepare(form)?;
            let failure = match self.attempt(call, said, started).await {
                Ok(relay) => return Ok(relay.holding(permit).boxed()),
                Err(failure) => failure,
            };
            if form != Form::Asked && failure.error.kind == ProviderErrorKind::BadRequest {
                // Newer models of a vendor may take a request to go on where older ones took their own words, and not every
                // compatible server knows schemas.
                tracing::info!(provider = &*self.name, error = %failure.error, "asking in plain words");
                form = Form::Asked;
                continue;
            }
            let left = self.deadlines.whole.saturating_sub(started.elapsed());
            let Some(wait) = self.retries.wait(&failure, tries, left) else {
                return Err(failure.error);
            };
            // Said aloud: the vendor may charge for a try that reached it, even if no text of it came back.
            tracing::info!(provider = &*self.name, error = %failure.error, tries, wait_ms = wait.as_millis(), "trying again");
            tokio::time::sleep(wait).await;
            tries += 1;
        }
    }
}

pub(super) fn unusable(message: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::BadRequest, message)
}

/// A header that is not shown in logs.
///
/// # Errors
/// `BadRequest` if no header can carry it.
pub(super) fn secret(value: &str) -> Result<HeaderValue, ProviderError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| unusable("the key has characters no header can carry"))?;
    value.set_sensitive(true);
    Ok(value)
}
