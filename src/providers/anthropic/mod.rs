//! Anthropic's Messages API, and servers that speak it.
//!
//! Here is where to call and as whom; `wire` is the format, `models` what is to be known of models by their names.

mod models;
mod wire;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

pub(super) use self::models::takes_prefill;
use self::wire::MessageEvents;
use super::remote::address::Base;
use super::remote::sse::Sse;
use super::remote::wire::Framed;
use super::remote::{Ask, Call, Vendor, secret};
use super::text::{ProviderError, ProviderErrorKind};
use crate::config;

const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
const VERSION: &str = "2023-06-01";

pub(super) struct Anthropic {
    messages_url: String,
    models_url: String,
    headers: HeaderMap,
}

impl Anthropic {
    /// # Errors
    /// `Auth` without a key for Anthropic itself, `BadRequest` for a base URL or key that cannot be used.
    pub(super) fn new(config: &config::Vendor) -> Result<Self, ProviderError> {
        let key = config.key();
        if key.is_none() && config.base_url.is_none() {
            let message = "neither a key nor a base URL is set";
            return Err(ProviderError::new(ProviderErrorKind::Auth, message));
        }
        let base = Base::new(config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?
            .above("/messages")
            .versioned("v1");
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static("anthropic-version"),
            HeaderValue::from_static(VERSION),
        );
        if let Some(key) = key {
            let key = secret(key.expose_secret().trim())?;
            headers.insert(HeaderName::from_static("x-api-key"), key);
        }
        let models_url = format!("{}?limit=1", base.join("models"));
        Ok(Self { messages_url: base.join("messages"), models_url, headers })
    }
}

impl Vendor for Anthropic {
    type Wire = Framed<Sse, MessageEvents>;

    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn call(&self, ask: &Ask<'_>) -> Result<Call, ProviderError> {
        Call::post(self.messages_url.clone(), &wire::body(ask))
    }

    fn probe(&self) -> Result<Call, ProviderError> {
        Ok(Call::get(self.models_url.clone()))
    }

    fn wire(&self) -> Self::Wire {
        Framed::default()
    }

    fn prefills(&self, model: &str) -> bool {
        takes_prefill(model)
    }
}
