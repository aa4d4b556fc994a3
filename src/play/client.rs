//! The server's REST side, and the upgrade of a connection to a WebSocket, over one HTTP client.
//!
//! It knows paths, headers and error bodies; tokens are handed in. It never retries: callers know what is safe.

use std::time::Duration;

use anyhow::Context;
use reqwest::header::{self, HeaderMap};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// The whole of a REST call, and of a WebSocket upgrade.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const SUBPROTOCOL: &str = "whatif.v1";
/// Largest frame accepted; a snapshot of a long story is the largest there is.
const MAX_FRAME_BYTES: usize = 256 << 20;

pub type Socket = WebSocketStream<reqwest::Upgraded>;

/// Why a call did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer: refused, cut, timed out.
    #[error("no answer from {url}: {cause}")]
    Unreachable { url: String, cause: String },
    #[error("{message} ({code})")]
    Refused { status: u16, code: String, message: String, retry_after: Option<Duration> },
    /// Somebody else's server.
    #[error("{url} is not a whatif server: it answers {answer}")]
    Stranger { url: String, answer: String },
    #[error("the answer of {url} is not what the contract says: {cause}")]
    Garbled { url: String, cause: String },
}

impl CallError {
    /// The token is not (any longer) good.
    pub fn is_unauthenticated(&self) -> bool {
        matches!(self, CallError::Refused { status: 401, .. })
    }

    /// The same call may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            CallError::Unreachable { .. } => true,
            CallError::Refused { status, .. } => matches!(status, 408 | 429 | 500..=599),
            CallError::Stranger { .. } | CallError::Garbled { .. } => false,
        }
    }

    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            CallError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// One server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// `server` is an origin such as `http://127.0.0.1:3000`; a bare `host:port` means http.
    ///
    /// # Errors
    /// If it is not an http(s) URL.
    pub fn new(server: &str) -> anyhow::Result<Self> {
        let server = server.trim();
        let server = match server.contains("://") {
            true => server.trim_end_matches('/').to_owned(),
            false => format!("http://{}", server.trim_end_matches('/')),
        };
        let url = reqwest::Url::parse(&server)
            .with_context(|| format!("--server {server} is not a URL"))?;
        let host = url.host_str().unwrap_or_default();
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https") && !host.is_empty(),
            "--server {server} is not an http:// or https:// URL"
        );
        let loopback = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
        let mut http = reqwest::Client::builder()
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("whatif-play/", env!("CARGO_PKG_VERSION")));
        if loopback {
            http = http.no_proxy();
        }
        Ok(Self { http: http.build()?, base: server })
    }

    /// The server's origin, normalised: the key of its account.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// # Errors
    /// [`CallError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str, token: &str) -> Result<T, CallError> {
        self.call(Method::GET, path, Some(token), None, None).await
    }

    /// Posts a JSON body; `key` is the idempotency key of a creating call.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: &Value,
    ) -> Result<T, CallError> {
        self.call(Method::POST, path, token, key, Some(body)).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<T, CallError> {
        let url = format!("{}/api/v1{path}", self.base);
        let mut request = self.http.request(method, &url).timeout(CALL_TIMEOUT);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request =
                request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(refusal(&self.base, status, &headers, &bytes));
        }
        let json = if bytes.is_empty() { b"null" } else { &bytes[..] };
        serde_json::from_slice(json)
            .map_err(|cause| CallError::Garbled { url, cause: cause.to_string() })
    }

    /// Opens a WebSocket. The token goes in the first frame, not here.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn socket(&self) -> Result<Socket, CallError> {
        let url = format!("{}/api/v1/ws", self.base);
        let key = generate_key();
        let upgrade = async {
            let answer = self
                .http
                .get(&url)
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_VERSION, "13")
                .header(header::SEC_WEBSOCKET_KEY, &key)
                .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
                .send()
                .await
                .map_err(|error| self.unreachable(&error))?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            if status != StatusCode::SWITCHING_PROTOCOLS {
                let bytes = answer.bytes().await.unwrap_or_default();
                return Err(refusal(&self.base, status, &headers, &bytes));
            }
            let says = |name| headers.get(name).and_then(|value| value.to_str().ok());
            let accept = derive_accept_key(key.as_bytes());
            if says(header::SEC_WEBSOCKET_ACCEPT) != Some(accept.as_str())
                || says(header::SEC_WEBSOCKET_PROTOCOL) != Some(SUBPROTOCOL)
            {
                let cause = format!("it does not speak the subprotocol {SUBPROTOCOL}");
                return Err(CallError::Garbled { url: url.clone(), cause });
            }
            answer.upgrade().await.map_err(|error| self.unreachable(&error))
        };
        let stream = tokio::time::timeout(CALL_TIMEOUT, upgrade).await.map_err(|_| {
            CallError::Unreachable { url: self.base.clone(), cause: "timed out".into() }
        })??;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(config)).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        // The innermost cause is the one a person can act on ("connection refused").
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        CallError::Unreachable { url: self.base.clone(), cause: plain(&cause.to_string()) }
    }
}

/// A cause as a person says it: without the operating system's number and a TLS library's words.
fn plain(cause: &str) -> String {
    if cause.starts_with("received corrupt message") {
        return "it does not speak TLS; is it http:// ?".to_owned();
    }
    let cause = cause.split(" (os error").next().unwrap_or_default();
    let mut letters = cause.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

fn refusal(server: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> CallError {
    #[derive(Deserialize)]
    struct Body {
        error: String,
        message: String,
    }
    let (code, words) = (status.as_u16(), status.canonical_reason().unwrap_or("refused"));
    let (error, message) = match serde_json::from_slice(body) {
        Ok(Body { error, message }) => (error, message),
        // A proxy's, whose server is away or busy.
        Err(_) if matches!(code, 408 | 429 | 500 | 502..=504) => {
            (code.to_string(), words.to_lowercase())
        }
        Err(_) => {
            let answer = format!("{code} {}", words.to_lowercase());
            return CallError::Stranger { url: server.to_owned(), answer };
        }
    };
    let retry_after = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    CallError::Refused { status: status.as_u16(), code: error, message, retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_people_name_them() {
        let cases = [
            ("127.0.0.1:3000", Some("http://127.0.0.1:3000")),
            ("https://whatif.example/", Some("https://whatif.example")),
            (" http://localhost:3000 ", Some("http://localhost:3000")),
            ("ftp://whatif.example", None),
            ("http://", None),
        ];
        for (given, base) in cases {
            let client = Client::new(given);
            assert_eq!(client.as_ref().ok().map(Client::base), base, "{given}");
        }
    }

    #[test]
    fn a_refusal_is_read_even_if_a_proxy_wrote_it() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, header::HeaderValue::from_static("7"));
        let refusal = |status, headers, body| refusal("http://127.0.0.1:1", status, headers, body);
        let error = refusal(StatusCode::SERVICE_UNAVAILABLE, &headers, &b"<html>"[..]);
        assert_eq!(error.to_string(), "service unavailable (503)");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.is_passing() && !error.is_unauthenticated());
        let body = br#"{"error":"invalid_token","message":"the token has expired"}"#;
        let error = refusal(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body);
        assert_eq!(error.to_string(), "the token has expired (invalid_token)");
        assert!(error.is_unauthenticated() && !error.is_passing());
    }

    #[test]
    fn somebody_elses_server_is_named_as_that() {
        for (status, answer) in [
            (StatusCode::NOT_FOUND, "404 not found"),
            (StatusCode::NOT_IMPLEMENTED, "501 not implemented"),
            (StatusCode::FOUND, "302 found"),
        ] {
            let error = refusal("http://127.0.0.1:1", status, &HeaderMap::new(), b"<html>");
            let said = format!("http://127.0.0.1:1 is not a whatif server: it answers {answer}");
            assert_eq!(error.to_string(), said);
            assert!(!error.is_passing(), "{status}");
        }
    }

    #[test]
    fn causes_are_said_plainly() {
        for (cause, said) in [
            ("Connection refused (os error 111)", "connection refused"),
            (
                "received corrupt message of type InvalidContentType",
                "it does not speak TLS; is it http:// ?",
            ),
            ("timed out", "timed out"),
            ("", ""),
        ] {
            assert_eq!(plain(cause), said);
        }
    }
}
