//! Ollama's own API: `/api/chat`, as lines of JSON. Its OpenAI-compatible one can be had through `openai`; this one tells how much
//! context the model gets, and goes on with a last message of the model's.
//!
//! Here is where to call; `wire` is the format.

mod wire;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use secrecy::ExposeSecret;

use self::wire::ChatEvents;
use super::remote::address::Base;
use super::remote::lines::Lines;
use super::remote::wire::Framed;
use super::remote::{Ask, Call, Vendor, secret};
use super::text::{ProviderError, ProviderErrorKind};
use crate::config;

pub(super) struct Ollama {
    chat_url: String,
    tags_url: String,
    headers: HeaderMap,
    context_tokens: u32,
}

impl Ollama {
    /// # Errors
    /// `Auth` without a base URL, `BadRequest` for one that cannot be used.
    pub(super) fn new(config: &config::Vendor) -> Result<Self, ProviderError> {
        let Some(base) = &config.base_url else {
            return Err(ProviderError::new(ProviderErrorKind::Auth, "no base URL is set"));
        };
        let base = Base::new(base)?.above("/chat").above("/api");
        let mut headers = HeaderMap::new();
        // For the hosted one, and for proxies.
        if let Some(key) = config.key() {
            let key = secret(&format!("Bearer {}", key.expose_secret().trim()))?;
            headers.insert(AUTHORIZATION, key);
        }
        Ok(Self {
            chat_url: base.join("api/chat"),
            tags_url: base.join("api/tags"),
            headers,
            context_tokens: config.context_tokens,
        })
    }
}

impl Vendor for Ollama {
    type Wire = Framed<Lines, ChatEvents>;

    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn call(&self, ask: &Ask<'_>) -> Result<Call, ProviderError> {
        Call::post(self.chat_url.clone(), &wire::body(ask, self.context_tokens))
    }

    fn probe(&self) -> Result<Call, ProviderError> {
        Ok(Call::get(self.tags_url.clone()))
    }

    fn wire(&self) -> Self::Wire {
        Framed::default()
    }

    fn constrains(&self) -> bool {
        true
    }

    fn prefills(&self, _: &str) -> bool {
        true
    }
}
