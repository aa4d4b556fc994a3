//! One question over HTTP and its answer as JSON, the same for all who search: within its time, its size, and without
//! going anywhere but where it was sent.

use std::time::Duration;

use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Request, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::config::Search;
use crate::providers::remote::unusable;
use crate::providers::text::{Deadline, ProviderError, ProviderErrorKind};

/// Largest answer that is read.
const MAX_BYTES: usize = 512 * 1024;
const IDLE: Duration = Duration::from_secs(55);
/// Longest `Retry-After` that is believed.
const LONGEST_RETRY: Duration = Duration::from_secs(3_600);

pub(super) struct Client {
    http: reqwest::Client,
    timeout: Duration,
}

impl Client {
    /// # Errors
    /// `BadRequest` if no HTTP client can be set up.
    pub(super) fn new(config: &Search) -> Result<Self, ProviderError> {
        let agent = concat!("whatif/", env!("CARGO_PKG_VERSION"));
        let agent = match &config.contact {
            Some(contact) => format!("{agent} ({contact})"),
            None => agent.to_owned(),
        };
        let agent = HeaderValue::try_from(agent)
            .map_err(|_| unusable("search.contact has characters no header can carry"))?;
        let json = HeaderValue::from_static("application/json");
        let http = reqwest::Client::builder()
            .default_headers(HeaderMap::from_iter([(USER_AGENT, agent), (ACCEPT, json)]))
            .connect_timeout(config.connect_timeout)
            .timeout(config.timeout)
            // Whoever answers does not choose where else this machine asks.
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|_| unusable("the HTTP client cannot be set up"))?;
        Ok(Self { http, timeout: config.timeout })
    }

    pub(super) fn get(&self, url: Url) -> RequestBuilder {
        self.http.get(url)
    }

    pub(super) fn post(&self, url: Url) -> RequestBuilder {
        self.http.post(url)
    }

    /// The answer, read as JSON.
    ///
    /// # Errors
    /// By the class of what went wrong; an answer that is no such JSON, or too much of it, is `Protocol`.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ProviderError> {
        let bytes = self.bytes(request).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            ProviderError::new(ProviderErrorKind::Protocol, format!("unreadable answer: {error}"))
        })
    }

    /// Whether whoever is asked answers and takes the credentials.
    pub(super) async fn reaches(&self, request: RequestBuilder) -> Result<(), ProviderError> {
        match self.answer(request.build().map_err(|error| transport(&error))?).await {
            Ok(_) => Ok(()),
            Err(error) if !error.kind.is_dependency_failure() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn bytes(&self, request: RequestBuilder) -> Result<Vec<u8>, ProviderError> {
        let request = request.build().map_err(|error| transport(&error))?;
        let read = async {
            let mut response = self.answer(request).await?;
            let mut body = Vec::new();
            while let Some(piece) = response.chunk().await.map_err(|error| transport(&error))? {
                if body.len() + piece.len() > MAX_BYTES {
                    let text = format!("an answer of more than {MAX_BYTES} bytes");
                    return Err(ProviderError::new(ProviderErrorKind::Protocol, text));
                }
                body.extend_from_slice(&piece);
            }
            Ok(body)
        };
        // The client's own limit is the same; this one is on the clock that tests hold.
        match tokio::time::timeout(self.timeout, read).await {
            Ok(read) => read,
            Err(_) => Err(late()),
        }
    }

    async fn answer(&self, request: Request) -> Result<Response, ProviderError> {
        let response = self.http.execute(request).await.map_err(|error| transport(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let wait = response.headers().get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
        let retry_after = wait.and_then(|wait| wait.trim().parse().ok()).map(Duration::from_secs);
        let retry_after = retry_after.map(|wait| wait.min(LONGEST_RETRY));
        Err(ProviderError::new(class(status, retry_after), format!("status {status}")))
    }
}

fn class(status: StatusCode, retry_after: Option<Duration>) -> ProviderErrorKind {
    match status.as_u16() {
        401..=403 => ProviderErrorKind::Auth,
        // Tavily has 432 and 433 for what a plan or a purse does not give any more.
        429 | 432 | 433 => ProviderErrorKind::RateLimited { retry_after },
        408 | 425 | 500.. => ProviderErrorKind::Overloaded { retry_after },
        400..=499 => ProviderErrorKind::BadRequest,
        // A redirect, which is not followed.
        _ => ProviderErrorKind::Protocol,
    }
}

fn late() -> ProviderError {
    ProviderError::new(ProviderErrorKind::Timeout(Deadline::Whole), "no answer in time")
}

/// Without the error's own text, which quotes the address and with it what was asked.
fn transport(error: &reqwest::Error) -> ProviderError {
    let (kind, text) = match (error.is_connect(), error.is_timeout()) {
        (true, true) => (ProviderErrorKind::Timeout(Deadline::Connect), "no connection in time"),
        (true, false) => (ProviderErrorKind::Network, "no connection"),
        (false, true) => return late(),
        (false, false) => (ProviderErrorKind::Network, "the connection broke off"),
    };
    ProviderError::new(kind, text)
}
