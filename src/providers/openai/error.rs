//! The vendor's failures by class, and which of them are worth another try.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use serde_json::Value;

use crate::clock::Clock;
use crate::providers::text::{Deadline, ProviderError, ProviderErrorKind};

/// Most characters of a vendor's body that are kept for the log.
const EXCERPT_CHARS: usize = 300;

/// A failed try.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub error: ProviderError,
    /// Whether another try may succeed.
    pub again: bool,
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        let again = matches!(
            error.kind,
            ProviderErrorKind::RateLimited { .. }
                | ProviderErrorKind::Overloaded { .. }
                | ProviderErrorKind::Network
                | ProviderErrorKind::Timeout(Deadline::Connect)
        );
        Self { error, again }
    }
}

/// Turns failures into [`ProviderError`]s whose messages never hold the key.
#[derive(Clone)]
pub(super) struct Classify {
    key: Option<Arc<str>>,
}

impl Classify {
    pub(super) fn new(key: Option<&str>) -> Self {
        Self { key: key.filter(|key| !key.is_empty()).map(Arc::from) }
    }

    /// Something that the protocol does not have.
    pub(super) fn protocol(&self, what: &str, detail: &impl ToString) -> Failure {
        self.error(ProviderErrorKind::Protocol, what, &detail.to_string()).into()
    }

    /// A failure below HTTP.
    pub(super) fn transport(&self, error: &reqwest::Error) -> ProviderError {
        let mut garbage = error.is_redirect();
        // The error's own text quotes the URL, which may carry credentials; its causes do not.
        let mut causes = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            garbage |= is_garbage(error);
            if !causes.is_empty() {
                causes.push_str(": ");
            }
            causes.push_str(&error.to_string());
            cause = error.source();
        }
        let kind = match (error.is_connect(), error.is_timeout()) {
            (true, true) => ProviderErrorKind::Timeout(Deadline::Connect),
            (false, true) if !error.is_body() && !error.is_decode() => {
                ProviderErrorKind::Timeout(Deadline::FirstByte)
            }
            _ if garbage => ProviderErrorKind::Protocol,
            _ => ProviderErrorKind::Network,
        };
        self.error(kind, "transport", &causes)
    }

    /// An answer with an error status.
    pub(super) fn status(&self, status: u16, headers: &HeaderMap, body: &str) -> Failure {
        let said = Said::parse(body);
        let after = retry_after(headers);
        let kind = match status {
            400..=499 if said.is_filter() => ProviderErrorKind::ContentFilter,
            401..=403 => ProviderErrorKind::Auth,
            429 => ProviderErrorKind::RateLimited { retry_after: after },
            408 | 409 | 425 | 500.. => ProviderErrorKind::Overloaded { retry_after: after },
            400..=499 => ProviderErrorKind::BadRequest,
            _ => ProviderErrorKind::Protocol,
        };
        let failure = Failure::from(self.error(kind, &format!("status {status}"), body));
        // No money left: that does not pass within seconds.
        Failure { again: failure.again && !said.has("insufficient_quota"), ..failure }
    }

    /// An error object in place of a chunk.
    pub(super) fn in_stream(&self, error: &Value) -> Failure {
        let said = Said::from(error);
        let status =
            error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        if let Some(status @ 400..=599) = status {
            return self.status(status, &HeaderMap::new(), &error.to_string());
        }
        let kind = if said.is_filter() {
            ProviderErrorKind::ContentFilter
        } else if said.has("rate_limit") || said.has("insufficient_quota") {
            ProviderErrorKind::RateLimited { retry_after: None }
        } else if said.has("authentication") || said.has("permission") || said.has("api_key") {
            ProviderErrorKind::Auth
        } else if said.has("invalid_request") || said.has("context_length") {
            ProviderErrorKind::BadRequest
        } else {
            ProviderErrorKind::Overloaded { retry_after: None }
        };
        let failure = Failure::from(self.error(kind, "error in the stream", &error.to_string()));
        Failure { again: failure.again && !said.has("insufficient_quota"), ..failure }
    }

    fn error(&self, kind: ProviderErrorKind, what: &str, detail: &str) -> ProviderError {
        let mut detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(key) = &self.key {
            detail = detail.replace(&**key, "***");
        }
        if let Some((end, _)) = detail.char_indices().nth(EXCERPT_CHARS) {
            detail.truncate(end);
            detail.push('…');
        }
        let message = if detail.is_empty() { what.to_owned() } else { format!("{what}: {detail}") };
        ProviderError::new(kind, message)
    }
}

/// Whether the other side spoke something that is not HTTP.
fn is_garbage(error: &(dyn StdError + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
        || error.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData
            )
        })
}

/// `code` and `type` of an error object.
struct Said(String);

impl Said {
    fn parse(body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        Self::from(body.get("error").unwrap_or(&body))
    }

    fn from(error: &Value) -> Self {
        let inner = error.get("innererror");
        let fields =
            [error.get("code"), error.get("type"), inner.and_then(|inner| inner.get("code"))];
        let words: Vec<&str> = fields.into_iter().flatten().filter_map(Value::as_str).collect();
        Self(words.join(" ").to_ascii_lowercase())
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    fn is_filter(&self) -> bool {
        ["content_filter", "content_policy", "responsibleaipolicyviolation", "moderation"]
            .into_iter()
            .any(|word| self.has(word))
    }
}

/// `retry-after-ms`, or `Retry-After` in seconds or as a date. A date is measured against the answer's own `Date`, so that a
/// clock that goes wrong, theirs or ours, does not matter.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(ms) =
        text(&HeaderName::from_static("retry-after-ms")).and_then(|ms| ms.parse::<u64>().ok())
    {
        return Some(Duration::from_millis(ms));
    }
    let value = text(&RETRY_AFTER)?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |text: &str| -> Option<Timestamp> {
        jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
    };
    let now = text(&DATE).and_then(date).unwrap_or_else(|| Clock::system().now());
    Some(Duration::try_from(date(value)?.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a header")))
            .collect()
    }

    #[test]
    fn statuses_have_their_class_and_only_some_are_tried_again() {
        use ProviderErrorKind::*;
        let limited = RateLimited { retry_after: None };
        let overloaded = Overloaded { retry_after: None };
        let code = |code: &str| json!({"error": {"message": "m", "code": code}}).to_string();
        for (status, body, kind, again) in [
            (401, String::new(), Auth, false),
            (403, String::new(), Auth, false),
            (402, String::new(), Auth, false),
            (400, code("context_length_exceeded"), BadRequest, false),
            (404, "<html>".into(), BadRequest, false),
            (422, String::new(), BadRequest, false),
            (400, code("content_filter"), ContentFilter, false),
            (400, code("content_policy_violation"), ContentFilter, false),
            (403, code("moderation_blocked"), ContentFilter, false),
            (429, String::new(), limited.clone(), true),
            (429, code("insufficient_quota"), limited, false),
            (500, String::new(), overloaded.clone(), true),
            (503, String::new(), overloaded.clone(), true),
            (529, String::new(), overloaded, true),
            (302, String::new(), Protocol, false),
        ] {
            let failure = Classify::new(None).status(status, &HeaderMap::new(), &body);
            assert_eq!((failure.error.kind, failure.again), (kind, again), "{status} {body}");
        }
    }

    #[test]
    fn an_error_in_the_stream_has_its_class() {
        use ProviderErrorKind::*;
        for (error, kind) in [
            (json!({"code": "content_filter"}), ContentFilter),
            (json!({"code": "ResponsibleAIPolicyViolation"}), ContentFilter),
            (json!({"type": "rate_limit_error"}), RateLimited { retry_after: None }),
            (json!({"code": "invalid_api_key"}), Auth),
            (json!({"type": "invalid_request_error"}), BadRequest),
            (json!({"type": "server_error", "code": null}), Overloaded { retry_after: None }),
            (json!({"code": 429}), RateLimited { retry_after: None }),
            (json!("what"), Overloaded { retry_after: None }),
        ] {
            assert_eq!(Classify::new(None).in_stream(&error).error.kind, kind, "{error}");
        }
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let date = ("date", "Fri, 20 Nov 2026 10:00:00 GMT");
        for (pairs, want) in [
            (vec![("retry-after", "7")], Some(7_000)),
            (vec![("retry-after", "0.5")], Some(500)),
            (vec![("retry-after-ms", "1250"), ("retry-after", "9")], Some(1_250)),
            (vec![date, ("retry-after", "Fri, 20 Nov 2026 10:00:30 GMT")], Some(30_000)),
            (vec![date, ("retry-after", "Fri, 20 Nov 2026 09:00:00 GMT")], Some(0)),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-3")], None),
            (vec![], None),
        ] {
            assert_eq!(retry_after(&headers(&pairs)), want.map(Duration::from_millis), "{pairs:?}");
        }
    }

    #[test]
    fn a_message_is_short_and_without_the_key() {
        let body = format!("bad key sk-secret {}", "x".repeat(5_000));
        let message =
            Classify::new(Some("sk-secret")).status(401, &HeaderMap::new(), &body).error.message;
        assert!(
            message.starts_with("status 401: bad key *** x") && message.len() < 400,
            "{message}"
        );
    }
}
