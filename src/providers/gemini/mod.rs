//! Google's Gemini API: `streamGenerateContent`, as server-sent events.
//!
//! Here is where to call and as whom; `wire` is the format.

mod wire;

use reqwest::header::{HeaderMap, HeaderName};
use secrecy::ExposeSecret;

use self::wire::ContentEvents;
use super::remote::address::Base;
use super::remote::sse::Sse;
use super::remote::wire::Framed;
use super::remote::{Ask, Call, Vendor, secret};
use super::text::{ProviderError, ProviderErrorKind};
use crate::config;

const DEFAULT_BASE_URL: &str = "https://generativelanguage.googleapis.com";

pub(super) struct Gemini {
    base: Base,
    headers: HeaderMap,
}

impl Gemini {
    /// # Errors
    /// `Auth` without a key for Google itself, `BadRequest` for a base URL or key that cannot be used.
    pub(super) fn new(config: &config::Vendor) -> Result<Self, ProviderError> {
        let key = config.key();
        if key.is_none() && config.base_url.is_none() {
            let message = "neither a key nor a base URL is set";
            return Err(ProviderError::new(ProviderErrorKind::Auth, message));
        }
        let base = config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL);
        let base = Base::new(base)?.versioned("v1beta");
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            // Not in the URL, where it would be logged on its way.
            let key = secret(key.expose_secret().trim())?;
            headers.insert(HeaderName::from_static("x-goog-api-key"), key);
        }
        Ok(Self { base, headers })
    }
}

impl Vendor for Gemini {
    type Wire = Framed<Sse, ContentEvents>;

    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn call(&self, ask: &Ask<'_>) -> Result<Call, ProviderError> {
        // Some name models as the API lists them.
        let model = ask.model.strip_prefix("models/").unwrap_or(ask.model);
        let url = self.base.join_around("models/", model, ":streamGenerateContent");
        let and = if url.contains('?') { '&' } else { '?' };
        Call::post(format!("{url}{and}alt=sse"), &wire::body(ask))
    }

    fn probe(&self) -> Result<Call, ProviderError> {
        Ok(Call::get(format!("{}?pageSize=1", self.base.join("models"))))
    }

    fn wire(&self) -> Self::Wire {
        Framed::default()
    }

    /// It is not documented that a last message of the model's is gone on with.
    fn prefills(&self, _: &str) -> bool {
        false
    }
}
