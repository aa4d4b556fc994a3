//! OpenAI and every server that speaks its chat-completions format.
//!
//! Here is where to call and as whom; `wire` is the format. Azure is recognized by its name, since it wants the key in
//! another header.

mod wire;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};
use secrecy::ExposeSecret;

use self::wire::ChatEvents;
use super::remote::address::Base;
use super::remote::sse::Sse;
use super::remote::wire::Framed;
use super::remote::{Ask, Call, Vendor, secret};
use super::text::{ProviderError, ProviderErrorKind};
use crate::config;

const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";

pub(super) struct OpenAi {
    chat_url: String,
    models_url: String,
    headers: HeaderMap,
}

impl OpenAi {
    /// # Errors
    /// `Auth` without a key for OpenAI itself, `BadRequest` for a base URL or key that cannot be used.
    pub(super) fn new(config: &config::Vendor) -> Result<Self, ProviderError> {
        let key = config.key();
        if key.is_none() && config.base_url.is_none() {
            let message = "neither a key nor a base URL is set";
            return Err(ProviderError::new(ProviderErrorKind::Auth, message));
        }
        let base = Base::new(config.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL))?
            .above("/chat/completions");
        let mut headers = HeaderMap::new();
        if let Some(key) = key.map(ExposeSecret::expose_secret).map(str::trim) {
            headers.insert(AUTHORIZATION, secret(&format!("Bearer {key}"))?);
            if base.host().ends_with(".azure.com") {
                headers.insert(HeaderName::from_static("api-key"), secret(key)?);
            }
        }
        let (chat_url, models_url) = (base.join("chat/completions"), base.join("models"));
        Ok(Self { chat_url, models_url, headers })
    }
}

impl Vendor for OpenAi {
    type Wire = Framed<Sse, ChatEvents>;

    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn call(&self, ask: &Ask<'_>) -> Result<Call, ProviderError> {
        Call::post(self.chat_url.clone(), &wire::body(ask))
    }

    fn probe(&self) -> Result<Call, ProviderError> {
        Ok(Call::get(self.models_url.clone()))
    }

    fn wire(&self) -> Self::Wire {
        Framed::default()
    }

    fn constrains(&self) -> bool {
        true
    }

    /// Some servers do; asking works with all.
    fn prefills(&self, _: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kind;

    #[test]
    fn without_key_and_base_url_there_is_no_provider() {
        let error = OpenAi::new(&config::Vendor::of(Kind::OpenAi)).err().map(|error| error.kind);
        assert_eq!(error, Some(ProviderErrorKind::Auth));
    }

    #[test]
    fn azure_gets_the_key_its_own_way() {
        for (base, azure) in
            [("https://x.openai.azure.com/openai/v1", true), ("https://h/v1", false)]
        {
            let config = config::Vendor {
                base_url: Some(base.into()),
                api_key: Some("k".to_owned().into()),
                ..config::Vendor::of(Kind::OpenAi)
            };
            let headers = OpenAi::new(&config).expect("a usable configuration").headers;
            assert!(headers.contains_key("authorization"));
            assert_eq!(headers.contains_key("api-key"), azure, "{base}");
        }
    }
}
