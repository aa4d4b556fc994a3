//! DynamoDB repositories on the AWS SDK: against AWS, a compatible server, or the engine in this process.
//!
//! Here: how a client is built. [`Dynamo`] is made once by boot and handed to the repositories, which never learn
//! what answers them: only `engine` knows the embedded engine, and only as something that answers the SDK's
//! HTTP requests. Nothing here reads the environment, a profile or the instance metadata service.

mod access;
mod engine;
mod failure;
mod item;
mod path;
mod purge;
mod row;
mod scenario;
pub mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{
    self, BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig, retry::RetryConfig,
    timeout::TimeoutConfig,
};

use self::access::Access;
use self::engine::Engine;
use super::StoreError;

pub use self::scenario::DynamoScenarios;

/// Of one attempt; a usual one takes milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);
/// Of a call with all its attempts.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The SDK's own attempts at throttled and broken calls, the first included.
const ATTEMPTS: u32 = 3;

/// A connection to DynamoDB or to something that speaks its API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dynamo {
    client: Client,
    /// Put before every table's name, so that several deployments can share an account.
    prefix: String,
    engine: Option<Engine>,
}

impl Dynamo {
    /// The engine in this process on `file`, which is made if missing; its folder must exist.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened, written or locked, [`StoreError::Corrupt`] if it is
    /// no database, a damaged one, or one of a later version.
    pub async fn embedded(file: &Path) -> Result<Self, StoreError> {
        let engine = Engine::open(file).await?;
        // Nobody checks a signature in this process, so none is made: it would hash every body for nothing.
        let builder = config::Builder::new()
            .region(Region::from_static("local"))
            .endpoint_url("http://embedded.invalid")
            .allow_no_auth()
            .http_client(engine.clone());
        Ok(Self { engine: Some(engine), ..Self::connect(builder) })
    }

    /// A server that speaks DynamoDB's API without checking who calls, reached through `http`. Some such servers
    /// know AWS's own regions only.
    pub fn server(
        endpoint: &str,
        region: impl Into<String>,
        http: impl config::HttpClient + 'static,
    ) -> Self {
        let builder = config::Builder::new()
            .region(Region::new(region.into()))
            .endpoint_url(endpoint)
            .credentials_provider(Credentials::new("local", "local", None, None, "static"))
            .http_client(http);
        Self::connect(builder)
    }

    /// Any other connection. `builder` says where to (region, endpoint), as whom (credentials) and through what
    /// (HTTP client); deadlines and retries are added here, the same for all.
    pub fn connect(builder: config::Builder) -> Self {
        let config = builder
            .behavior_version(BehaviorVersion::latest())
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(ATTEMPTS)
                    .with_initial_backoff(Duration::from_millis(25))
                    .with_max_backoff(Duration::from_secs(1)),
            )
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(CALL_TIMEOUT)
                    .build(),
            )
            // Bodies are small and the deadlines above cover them.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        Self { client: Client::from_conf(config), prefix: tables::PREFIX.to_owned(), engine: None }
    }

    /// As `self`, with other table names: `prefix` stands for the usual `whatif`.
    #[must_use]
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// Creates the tables that are missing. Safe to run again, and from several processes at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Throttled`] if the server does not do it in time.
    pub async fn ensure_tables(&self) -> Result<(), StoreError> {
        tables::ensure_tables(&self.client, &self.prefix).await
    }

    /// The repository of scenarios and scenes.
    pub fn scenarios(&self) -> DynamoScenarios {
        let table = tables::HISTORY.full_name(&self.prefix);
        DynamoScenarios::new(Access { client: self.client.clone(), table })
    }

    /// Deletes the items whose time to live has run out and returns how many: to be called from time to time.
    /// Servers do that by themselves; only the embedded engine has to be told.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the engine's file fails.
    pub async fn sweep_expired(&self) -> Result<usize, StoreError> {
        match &self.engine {
            Some(engine) => engine.sweep_expired().await,
            None => Ok(0),
        }
    }
}
