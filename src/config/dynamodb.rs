//! The section `[dynamodb]`: which engine keeps scenarios, and how patiently it is called.

use std::path::Path;
use std::time::Duration;

use axum::http::Uri;
use secrecy::SecretString;
use serde::Deserialize;

use super::ConfigError;

/// What a server without a region of its own is told; some know AWS's names only.
const SERVER_REGION: &str = "us-east-1";

#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamoDb {
    /// Where a server that speaks DynamoDB's API listens.
    pub endpoint: Option<String>,
    /// Without an endpoint: AWS.
    pub region: Option<String>,
    /// Both or neither. Neither: whatever AWS's usual chain finds; a server other than AWS is told dummies.
    pub access_key_id: Option<SecretString>,
    pub secret_access_key: Option<SecretString>,
    pub session_token: Option<SecretString>,
    /// Begins every table's name, so that several deployments can share an account.
    pub table_prefix: String,
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Of one attempt at a call.
    #[serde(with = "humantime_serde")]
    pub attempt_timeout: Duration,
    /// Of a call with all its attempts.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// Attempts at a throttled or broken call, the first included.
    pub max_attempts: u32,
    /// Attempts at a write that meets other writers and at the rest of a batch, the first included.
    pub max_contended_attempts: u32,
}

impl Default for DynamoDb {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            table_prefix: "whatif".into(),
            connect_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(2),
            operation_timeout: Duration::from_millis(4_500),
            max_attempts: 3,
            max_contended_attempts: 9,
        }
    }
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamoEngine<'a> {
    /// In this process, on a file.
    Embedded,
    /// A server that speaks the API and believes whatever it is told about the caller.
    Server { endpoint: &'a str, region: &'a str },
    /// AWS, at its usual endpoint or at one of the network's own.
    Aws { region: &'a str, endpoint: Option<&'a str> },
}

impl DynamoDb {
    /// Which engine serves.
    pub fn engine(&self) -> DynamoEngine<'_> {
        match (self.endpoint.as_deref(), self.region.as_deref()) {
            (None, None) => DynamoEngine::Embedded,
            (None, Some(region)) => DynamoEngine::Aws { region, endpoint: None },
            (Some(endpoint), Some(region)) if is_of_aws(endpoint) => {
                DynamoEngine::Aws { region, endpoint: Some(endpoint) }
            }
            (Some(endpoint), region) => {
                DynamoEngine::Server { endpoint, region: region.unwrap_or(SERVER_REGION) }
            }
        }
    }

    /// For a person.
    pub(super) fn describe(&self, data_dir: &Path) -> String {
        let tables = format!("tables {}-…", self.table_prefix);
        match self.engine() {
            DynamoEngine::Embedded => {
                format!("embedded DynamoDB engine in {}", data_dir.display())
            }
            DynamoEngine::Server { endpoint, .. } => {
                format!("DynamoDB server at {endpoint}, {tables}")
            }
            DynamoEngine::Aws { region, endpoint } => {
                let at = endpoint.map(|at| format!(" at {at}")).unwrap_or_default();
                format!("DynamoDB of AWS in {region}{at}, {tables}")
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let broken = |key, message: &str| Err(ConfigError::Rule { key, message: message.into() });
        if let Some(endpoint) = &self.endpoint {
            let uri = endpoint.parse::<Uri>().ok();
            let scheme = uri.as_ref().and_then(Uri::scheme_str);
            if !matches!(scheme, Some("http" | "https")) {
                return broken("dynamodb.endpoint", "must be a URL that begins with http(s)://");
            }
            if is_of_aws(endpoint) && self.region.is_none() {
                return broken(
                    "dynamodb.region",
                    "must be set for an endpoint of AWS (AWS_REGION)",
                );
            }
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return broken(
                "dynamodb.access_key_id",
                "goes with dynamodb.secret_access_key: set both or neither",
            );
        }
        let in_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let prefix = &self.table_prefix;
        if !(1..=100).contains(&prefix.len()) || !prefix.chars().all(in_a_name) {
            return broken(
                "dynamodb.table_prefix",
                "must be 1 to 100 of the characters a-z, A-Z, 0-9, _, - and .",
            );
        }
        if self.attempt_timeout > self.operation_timeout {
            return broken(
                "dynamodb.attempt_timeout",
                "must be at most dynamodb.operation_timeout",
            );
        }
        if self.connect_timeout.is_zero() || self.attempt_timeout.is_zero() {
            return broken("dynamodb.attempt_timeout", "timeouts must be above 0");
        }
        if self.max_attempts == 0 || self.max_contended_attempts == 0 {
            return broken("dynamodb.max_attempts", "attempts must be at least 1");
        }
        Ok(())
    }
}

/// A network of one's own reaches AWS through endpoints with names of AWS; those check who calls.
fn is_of_aws(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<Uri>() else { return false };
    let is_below = |host: &str, domain: &str| {
        host.strip_suffix(domain).is_some_and(|above| above.ends_with('.'))
    };
    uri.host().is_some_and(|host| {
        ["amazonaws.com", "amazonaws.com.cn", "api.aws"].iter().any(|of| is_below(host, of))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_follows_from_endpoint_and_region() {
        let here = "http://127.0.0.1:8000";
        let ours = "https://vpce-1.dynamodb.eu-central-1.vpce.amazonaws.com";
        for (endpoint, region, expected) in [
            (None, None, DynamoEngine::Embedded),
            (
                None,
                Some("eu-central-1"),
                DynamoEngine::Aws { region: "eu-central-1", endpoint: None },
            ),
            (Some(here), None, DynamoEngine::Server { endpoint: here, region: "us-east-1" }),
            (Some(here), Some("x-1"), DynamoEngine::Server { endpoint: here, region: "x-1" }),
            (
                Some(ours),
                Some("eu-central-1"),
                DynamoEngine::Aws { region: "eu-central-1", endpoint: Some(ours) },
            ),
            (
                Some("https://amazonaws.com.example.org"),
                Some("x-1"),
                DynamoEngine::Server {
                    endpoint: "https://amazonaws.com.example.org",
                    region: "x-1",
                },
            ),
        ] {
            let config = DynamoDb {
                endpoint: endpoint.map(str::to_owned),
                region: region.map(str::to_owned),
                ..DynamoDb::default()
            };
            assert_eq!(config.engine(), expected);
            config.check().unwrap();
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let secret = |text: &str| Some(SecretString::from(text));
        let d = DynamoDb::default;
        for (key, config) in [
            ("dynamodb.endpoint", DynamoDb { endpoint: Some("localhost:8000".into()), ..d() }),
            ("dynamodb.endpoint", DynamoDb { endpoint: Some("".into()), ..d() }),
            (
                "dynamodb.region",
                DynamoDb { endpoint: Some("https://x.amazonaws.com".into()), ..d() },
            ),
            ("dynamodb.access_key_id", DynamoDb { access_key_id: secret("a"), ..d() }),
            ("dynamodb.access_key_id", DynamoDb { secret_access_key: secret("a"), ..d() }),
            ("dynamodb.table_prefix", DynamoDb { table_prefix: "what if".into(), ..d() }),
            ("dynamodb.table_prefix", DynamoDb { table_prefix: String::new(), ..d() }),
            (
                "dynamodb.attempt_timeout",
                DynamoDb { attempt_timeout: Duration::from_secs(9), ..d() },
            ),
            ("dynamodb.max_attempts", DynamoDb { max_attempts: 0, ..d() }),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
