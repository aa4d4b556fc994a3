//! How clients are built: where to, as whom, how patiently. Used by [`Dynamo`](super::Dynamo) alone.
//!
//! What is shared by all engines (deadlines, retries) is added in one place, [`client`], so that none of them can be
//! called without. For AWS the credentials come from its usual chain: environment, profile, web identity (EKS),
//! container (ECS), instance metadata.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Builder, Credentials, ProvideCredentials, Region,
    StalledStreamProtectionConfig,
    retry::{RetryConfig, RetryPartition},
    timeout::TimeoutConfig,
};
use secrecy::ExposeSecret;

use super::engine::Engine;
use super::failure;
use crate::config::DynamoDb;
use crate::storage::StoreError;

/// Between attempts at a throttled or broken call: anything up to a bound that begins here and doubles …
const FIRST_BACKOFF: Duration = Duration::from_millis(25);
/// … up to this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// A client of what `builder` says, as patient as configured.
pub(super) fn client(config: &DynamoDb, builder: Builder) -> Client {
    let config = builder
        .behavior_version(BehaviorVersion::latest())
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(config.max_attempts)
                .with_initial_backoff(FIRST_BACKOFF)
                .with_max_backoff(LONGEST_BACKOFF),
        )
        // What one deployment's outage takes from the budget for retries is not missing elsewhere.
        .retry_partition(RetryPartition::new(format!(
            "{} at {}",
            config.table_prefix,
            config.endpoint.as_deref().unwrap_or("its usual endpoint")
        )))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(config.connect_timeout)
                .operation_attempt_timeout(config.attempt_timeout)
                .operation_timeout(config.operation_timeout)
                .build(),
        )
        // Bodies are small and the deadlines above cover them.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// The engine in this process. Nobody checks a signature there, so none is made: it would hash every body for nothing.
pub(super) fn to_engine(engine: Engine) -> Builder {
    Builder::new()
        .region(Region::from_static("local"))
        .endpoint_url("http://embedded.invalid")
        .allow_no_auth()
        .http_client(engine)
}

/// A server that speaks the API. Requests are signed, because some servers insist, with whatever is configured.
pub(super) fn to_server(config: &DynamoDb, endpoint: &str, region: &str) -> Builder {
    let credentials = credentials(config)
        .unwrap_or_else(|| Credentials::new("local", "local", None, None, "local"));
    Builder::new()
        .region(Region::new(region.to_owned()))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
}

/// AWS. Asks once for credentials, so that their absence is found at start and told as what it is.
///
/// # Errors
/// [`StoreError::Unavailable`] if there are no credentials.
pub(super) async fn to_aws(
    config: &DynamoDb,
    region: &str,
    endpoint: Option<&str>,
) -> Result<Builder, StoreError> {
    let mut loader =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.to_owned()));
    if let Some(credentials) = credentials(config) {
        loader = loader.credentials_provider(credentials);
    }
    let shared = loader.load().await;
    look_for_credentials(&shared).await?;
    let mut builder = Builder::from(&shared);
    builder.set_endpoint_url(endpoint.map(str::to_owned));
    Ok(builder)
}

fn credentials(config: &DynamoDb) -> Option<Credentials> {
    let id = config.access_key_id.as_ref()?.expose_secret();
    let secret = config.secret_access_key.as_ref()?.expose_secret();
    let session = config.session_token.as_ref().map(|token| token.expose_secret().to_owned());
    Some(Credentials::new(id, secret, session, None, "configuration"))
}

async fn look_for_credentials(shared: &SdkConfig) -> Result<(), StoreError> {
    let missing = |cause: &str| StoreError::Unavailable(format!("no AWS credentials: {cause}"));
    let Some(provider) = shared.credentials_provider() else {
        return Err(missing("nothing provides them"));
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(e) => Err(missing(&failure::chain(&e))),
    }
}
