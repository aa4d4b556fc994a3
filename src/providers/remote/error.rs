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
pub(in crate::providers) struct Failure {
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

/// Turns failures into [`ProviderError`]s whose messages never hold a secret. There is one for all vendors: their words differ
/// little, and servers that pass on other vendors' models pass on their errors, too.
#[derive(Clone)]
pub(in crate::providers) struct Classify {
    secrets: Arc<[Box<str>]>,
}

impl Classify {
    pub(in crate::providers) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter().map(str::trim).filter(|secret| !secret.is_empty());
        Self { secrets: secrets.map(Box::from).collect() }
    }

    /// Something that the protocol does not have.
    pub(in crate::providers) fn protocol(&self, what: &str, detail: &impl ToString) -> Failure {
        self.error(ProviderErrorKind::Protocol, what, &detail.to_string()).into()
    }

    /// A failure below HTTP.
    pub(in crate::providers) fn transport(&self, error: &reqwest::Error) -> ProviderError {
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
    pub(in crate::providers) fn status(
        &self,
        status: u16,
        headers: &HeaderMap,
        body: &str,
    ) -> Failure {
        let mut words = Words::parse(body);
        // Bedrock names the error here.
        let named = headers.get("x-amzn-errortype").and_then(|name| name.to_str().ok());
        words.add(named);
        let after = retry_after(headers).or(words.retry_after);
        let kind = match status {
            400..=499 if words.are_a_filters() => ProviderErrorKind::ContentFilter,
            401..=403 => ProviderErrorKind::Auth,
            400..=499 if words.are_of_credentials() => ProviderErrorKind::Auth,
            429 => ProviderErrorKind::RateLimited { retry_after: after },
            400..=499 if words.are_of_a_limit() => {
                ProviderErrorKind::RateLimited { retry_after: after }
            }
            408 | 409 | 424 | 425 | 500.. => ProviderErrorKind::Overloaded { retry_after: after },
            400..=499 => ProviderErrorKind::BadRequest,
            _ => ProviderErrorKind::Protocol,
        };
        self.failure(kind, &words, &format!("status {status}"), body)
    }

    /// An error object in place of an event.
    pub(super) fn in_stream(&self, error: &Value) -> Failure {
        let words = Words::from(error);
        let status =
            error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        if let Some(status @ 400..=599) = status {
            return self.status(status, &HeaderMap::new(), &error.to_string());
        }
        let kind = if words.are_a_filters() {
            ProviderErrorKind::ContentFilter
        } else if words.are_of_a_limit() {
            ProviderErrorKind::RateLimited { retry_after: words.retry_after }
        } else if words.are_of_credentials() {
            ProviderErrorKind::Auth
        } else if words.are_of_the_request() {
            ProviderErrorKind::BadRequest
        } else {
            ProviderErrorKind::Overloaded { retry_after: words.retry_after }
        };
        self.failure(kind, &words, "error in the stream", &error.to_string())
    }

    fn failure(&self, kind: ProviderErrorKind, words: &Words, what: &str, detail: &str) -> Failure {
        let failure = Failure::from(self.error(kind, what, detail));
        // No money left: that does not pass within seconds.
        Failure { again: failure.again && !words.have("insufficient_quota"), ..failure }
    }

    fn error(&self, kind: ProviderErrorKind, what: &str, detail: &str) -> ProviderError {
        let mut detail = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        for secret in &*self.secrets {
            detail = detail.replace(&**secret, "***");
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

/// What a vendor calls the error, and how long it wants to be left alone.
#[derive(Debug, Default)]
struct Words {
    said: String,
    retry_after: Option<Duration>,
}

impl Words {
    fn parse(body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        // Gemini puts some of its errors into a list of one.
        let body = body.get(0).unwrap_or(&body);
        Self::from(body.get("error").unwrap_or(body))
    }

    fn from(error: &Value) -> Self {
        let mut words = Self::default();
        let text = |value: &'_ Value, name: &str| {
            value.get(name).and_then(Value::as_str).map(str::to_owned)
        };
        for name in ["code", "type", "status", "__type"] {
            words.add(text(error, name).as_deref());
        }
        words.add(error.get("innererror").and_then(|inner| text(inner, "code")).as_deref());
        for detail in error.get("details").and_then(Value::as_array).into_iter().flatten() {
            words.add(text(detail, "reason").as_deref());
            let delay = text(detail, "retryDelay");
            let seconds = delay.as_deref().and_then(|delay| delay.strip_suffix('s'));
            let seconds = seconds.and_then(|seconds| seconds.parse().ok());
            words.retry_after = seconds
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .or(words.retry_after);
        }
        // An account without money is told in prose alone.
        let message = text(error, "message").unwrap_or_default();
        if message.contains("credit balance is too low") {
            words.add(Some("billing"));
        }
        words
    }

    fn add(&mut self, word: Option<&str>) {
        if let Some(word) = word {
            self.said.push_str(&word.to_ascii_lowercase());
            self.said.push(' ');
        }
    }

    fn have(&self, word: &str) -> bool {
        self.said.contains(word)
    }

    fn have_one(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.have(word))
    }

    fn are_a_filters(&self) -> bool {
        self.have_one(&[
            "content_filter",
            "content_policy",
            "responsibleaipolicyviolation",
            "moderation",
        ])
    }

    fn are_of_a_limit(&self) -> bool {
        self.have_one(&[
            "rate_limit",
            "insufficient_quota",
            "resource_exhausted",
            "throttling",
            "servicequotaexceeded",
        ])
    }

    fn are_of_credentials(&self) -> bool {
        self.have_one(&[
            "authentication",
            "permission",
            "api_key",
            "unauthenticated",
            "accessdenied",
            "unrecognizedclient",
            "expiredtoken",
            "billing",
        ])
    }

    fn are_of_the_request(&self) -> bool {
        self.have_one(&[
            "invalid_request",
            "context_length",
            "invalid_argument",
            "request_too_large",
            "not_found",
            "validation",
        ])
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
            (424, String::new(), overloaded.clone(), true),
            (529, String::new(), overloaded, true),
            (302, String::new(), Protocol, false),
        ] {
            let failure = Classify::new([]).status(status, &HeaderMap::new(), &body);
            assert_eq!((failure.error.kind, failure.again), (kind, again), "{status} {body}");
        }
    }

    #[test]
    fn every_vendors_own_words_are_understood() {
        use ProviderErrorKind::*;
        let invalid_key = json!([{"error": {
            "code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT",
            "details": [{"@type": "t/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
        }}]);
        let exhausted = json!({"error": {
            "code": 429, "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "t/google.rpc.RetryInfo", "retryDelay": "37.5s"}],
        }});
        let no_money = json!({"type": "error", "error": {
            "type": "invalid_request_error", "message": "Your credit balance is too low to access the API.",
        }});
        let unknown_model = json!({"error": "model \"x\" not found, try pulling it first"});
        for (status, named, body, kind) in [
            (400, "", invalid_key, Auth),
            (429, "", exhausted, RateLimited { retry_after: Some(Duration::from_millis(37_500)) }),
            (400, "", no_money, Auth),
            (404, "", unknown_model, BadRequest),
            (400, "ValidationException", json!({"message": "m"}), BadRequest),
            (400, "ThrottlingException:http://x/", json!({}), RateLimited { retry_after: None }),
            (400, "ExpiredTokenException", json!({}), Auth),
        ] {
            let headers = headers(&[("x-amzn-errortype", named)]);
            let failure = Classify::new([]).status(status, &headers, &body.to_string());
            assert_eq!(failure.error.kind, kind, "{status} {named} {body}");
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
            (json!({"type": "overloaded_error"}), Overloaded { retry_after: None }),
            (json!({"type": "api_error"}), Overloaded { retry_after: None }),
            (json!({"type": "throttlingException"}), RateLimited { retry_after: None }),
            (json!({"type": "validationException"}), BadRequest),
            (json!({"code": 503, "status": "UNAVAILABLE"}), Overloaded { retry_after: None }),
            (json!("what"), Overloaded { retry_after: None }),
        ] {
            assert_eq!(Classify::new([]).in_stream(&error).error.kind, kind, "{error}");
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
            Classify::new(["sk-secret"]).status(401, &HeaderMap::new(), &body).error.message;
        assert!(
            message.starts_with("status 401: bad key *** x") && message.len() < 400,
            "{message}"
        );
    }
}
