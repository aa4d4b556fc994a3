//! Where a vendor is, as configured: nothing is added but the routes.

use reqwest::Url;

use super::unusable;
use crate::providers::text::ProviderError;

pub(in crate::providers) struct Base(Url);

impl Base {
    /// # Errors
    /// `BadRequest` if it is no HTTP address.
    pub(in crate::providers) fn new(text: &str) -> Result<Self, ProviderError> {
        Self::parse(text).ok_or_else(|| unusable("the base URL is not an http or https URL"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut url = Url::parse(text.trim()).ok()?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return None;
        }
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Some(Self(url))
    }

    /// Without `route`, should somebody have given the whole address of a call.
    pub(in crate::providers) fn above(mut self, route: &str) -> Self {
        if let Some(path) = self.0.path().strip_suffix(route) {
            let path = path.trim_end_matches('/').to_owned();
            self.0.set_path(&path);
        }
        self
    }

    /// With the version's segment, unless it ends with that already: people give both.
    pub(in crate::providers) fn versioned(mut self, version: &str) -> Self {
        let path = self.0.path().trim_end_matches('/');
        if path.rsplit('/').next() != Some(version) {
            let path = format!("{path}/{version}");
            self.0.set_path(&path);
        }
        self
    }

    /// The query stays (Azure's `api-version`).
    pub(in crate::providers) fn join(&self, route: &str) -> String {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/{route}", self.0.path().trim_end_matches('/')));
        url.into()
    }

    /// With a segment that may hold anything, such as a model's name: what would end it is escaped.
    pub(in crate::providers) fn join_around(
        &self,
        before: &str,
        segment: &str,
        after: &str,
    ) -> String {
        let mut escaped = String::with_capacity(segment.len());
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                escaped.push(byte as char);
            } else {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
        self.join(&format!("{before}{escaped}{after}"))
    }

    pub(in crate::providers) fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
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
            ("https://h/v1/chat/completions/", "https://h/v1/chat/completions"),
            (
                "https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
                "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
            ),
        ] {
            let route = "chat/completions";
            let joined = Base::parse(base).map(|base| base.above("/chat/completions").join(route));
            assert_eq!(joined.as_deref(), Some(chat), "{base}");
        }
        for base in ["", "h:1/v1", "ftp://h/v1", "localhost", "file:///v1"] {
            assert!(Base::new(base).is_err(), "{base}");
        }
    }

    #[test]
    fn a_version_is_there_once() {
        for (base, want) in [
            ("https://h", "https://h/v1/messages"),
            ("https://h/", "https://h/v1/messages"),
            ("https://h/v1/", "https://h/v1/messages"),
            ("https://h/proxy", "https://h/proxy/v1/messages"),
        ] {
            let base = Base::parse(base).expect("a base").versioned("v1");
            assert_eq!(base.join("messages"), want);
        }
    }

    #[test]
    fn a_models_name_stays_one_segment() {
        let base = Base::parse("https://h").expect("a base");
        for (model, want) in [
            ("gemini-2.5-flash", "https://h/models/gemini-2.5-flash:x"),
            ("a.b-v1:0", "https://h/models/a.b-v1%3A0:x"),
            ("../keys?a=b#é", "https://h/models/..%2Fkeys%3Fa%3Db%23%C3%A9:x"),
        ] {
            assert_eq!(base.join_around("models/", model, ":x"), want);
        }
    }
}
