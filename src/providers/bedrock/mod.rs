//! AWS Bedrock: `ConverseStream`, signed by AWS's own crate and read by AWS's own decoder, over the same HTTP as all others.
//!
//! Here is where to call and as whom; `wire` is the format. Why this is not the SDK: docs/adr/0019.

mod wire;

use std::time::SystemTime;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName};
use secrecy::ExposeSecret;
use tokio::sync::OnceCell;

use self::wire::ConverseWire;
use super::anthropic::takes_prefill;
use super::prompt::{Message, Role};
use super::remote::address::Base;
use super::remote::{Ask, Call, Vendor, secret, unusable};
use super::text::{ProviderError, ProviderErrorKind};
use crate::clock::Clock;
use crate::config;

pub(super) struct Bedrock {
    base: Base,
    region: String,
    model: String,
    /// A Bedrock API key, where there is one: nothing has to be signed then.
    headers: HeaderMap,
    caller: Caller,
}

/// As whom calls are made.
enum Caller {
    /// Whoever holds the key in the headers.
    Bearer,
    Known(Credentials),
    /// Whom AWS's usual chain finds, when it is first asked: the process does not wait for it to start.
    Found(OnceCell<SharedCredentialsProvider>),
}

impl Bedrock {
    /// # Errors
    /// `Auth` without a region, `BadRequest` for a base URL or key that cannot be used.
    pub(super) fn new(config: &config::Vendor) -> Result<Self, ProviderError> {
        let Some(region) = config.region.clone() else {
            return Err(ProviderError::new(ProviderErrorKind::Auth, "no region is set"));
        };
        let base = match &config.base_url {
            Some(url) => Base::new(url)?,
            None => Base::new(&format!("https://bedrock-runtime.{region}.amazonaws.com"))?,
        };
        let mut headers = HeaderMap::new();
        let caller = match (config.key(), &config.access_key_id, &config.secret_access_key) {
            (Some(key), ..) => {
                let key = secret(&format!("Bearer {}", key.expose_secret().trim()))?;
                headers.insert(AUTHORIZATION, key);
                Caller::Bearer
            }
            (None, Some(id), Some(hidden)) => {
                let session = config.session_token.as_ref();
                let session = session.map(|token| token.expose_secret().to_owned());
                let (id, hidden) = (id.expose_secret(), hidden.expose_secret());
                Caller::Known(Credentials::new(id, hidden, session, None, "configuration"))
            }
            _ => Caller::Found(OnceCell::new()),
        };
        Ok(Self { base, region, model: config.model.clone(), headers, caller })
    }

    async fn credentials(&self) -> Result<Option<Credentials>, ProviderError> {
        let missing = |cause: String| {
            let message = format!("no AWS credentials: {cause}");
            ProviderError::new(ProviderErrorKind::Auth, message)
        };
        let chain = match &self.caller {
            Caller::Bearer => return Ok(None),
            Caller::Known(credentials) => return Ok(Some(credentials.clone())),
            Caller::Found(chain) => chain,
        };
        let chain = chain.get_or_try_init(async || {
            let region = Region::new(self.region.clone());
            let found = aws_config::defaults(BehaviorVersion::latest()).region(region).load().await;
            found.credentials_provider().ok_or_else(|| missing("nothing provides them".into()))
        });
        // The provider keeps them until they run out.
        let credentials = chain.await?.provide_credentials().await;
        credentials.map(Some).map_err(|error| missing(error.to_string()))
    }

    fn signature(
        &self,
        call: &Call,
        credentials: Credentials,
        time: SystemTime,
    ) -> Result<HeaderMap, ProviderError> {
        let broken = |error: &dyn std::error::Error| {
            unusable(&format!("the request cannot be signed: {error}"))
        };
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("bedrock")
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| broken(&error))?;
        let body = SignableBody::Bytes(&call.body);
        let none = std::iter::empty();
        let request = SignableRequest::new(call.method.as_str(), &call.url, none, body)
            .map_err(|error| broken(&error))?;
        let (signed, _) =
            sign(request, &params.into()).map_err(|error| broken(&error))?.into_parts();
        let mut headers = HeaderMap::new();
        for (name, value) in signed.headers() {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| broken(&error))?;
            headers.insert(name, secret(value)?);
        }
        Ok(headers)
    }

    fn converse(&self, ask: &Ask<'_>, action: &str) -> Result<Call, ProviderError> {
        let url = self.base.join_around("model/", ask.model, action);
        Call::post(url, &wire::body(ask))
    }
}

impl Vendor for Bedrock {
    type Wire = ConverseWire;

    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn call(&self, ask: &Ask<'_>) -> Result<Call, ProviderError> {
        self.converse(ask, "/converse-stream")
    }

    /// Nothing else on this host tells whether the model answers. One token, and only while the circuit is open.
    fn probe(&self) -> Result<Call, ProviderError> {
        let messages = [Message { role: Role::User, content: "Hi".into() }];
        let ask = Ask {
            model: &self.model,
            messages: &messages,
            prefilled: false,
            max_output_tokens: 1,
            schema: None,
            temperature: None,
        };
        self.converse(&ask, "/converse")
    }

    fn wire(&self) -> Self::Wire {
        ConverseWire::default()
    }

    fn prefills(&self, model: &str) -> bool {
        takes_prefill(model)
    }

    async fn sign(&self, call: &Call) -> Result<HeaderMap, ProviderError> {
        match self.credentials().await? {
            Some(credentials) => self.signature(call, credentials, Clock::system().now().into()),
            None => Ok(HeaderMap::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Kind;

    fn configured() -> config::Vendor {
        let secret = |text: &str| Some(text.to_owned().into());
        config::Vendor {
            region: Some("eu-central-1".into()),
            access_key_id: secret("AKIDEXAMPLE"),
            secret_access_key: secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: secret("a-session"),
            ..config::Vendor::of(Kind::Bedrock)
        }
    }

    fn call(model: &str) -> (Bedrock, Call) {
        let bedrock = Bedrock::new(&configured()).expect("a usable configuration");
        let url = bedrock.base.join_around("model/", model, "/converse-stream");
        let body = &b"{\"messages\":[]}"[..];
        (bedrock, Call { method: reqwest::Method::POST, url, body: body.into() })
    }

    /// The expected values were computed with botocore 1.44, for the same request at the same time.
    #[test]
    fn the_signature_is_the_one_that_aws_expects() {
        let (bedrock, call) = call("eu.anthropic.claude-haiku-4-5-20251001-v1:0");
        assert_eq!(
            call.url,
            "https://bedrock-runtime.eu-central-1.amazonaws.com/model/\
             eu.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream"
        );
        let Caller::Known(credentials) = &bedrock.caller else { panic!("they were given") };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let headers = bedrock.signature(&call, credentials.clone(), time).expect("a signature");
        let text = |name: &str| headers[name].to_str().expect("text");
        assert_eq!(text("x-amz-date"), "20270115T080000Z");
        assert_eq!(text("x-amz-security-token"), "a-session");
        assert_eq!(
            text("authorization"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/eu-central-1/bedrock/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-security-token, \
             Signature=4865b8d3d63e25d26deac0b99dbc0f612960e35676388b9613914d9e3e618e4e"
        );
        assert!(headers.values().all(reqwest::header::HeaderValue::is_sensitive));
    }

    #[test]
    fn a_key_goes_before_a_signature_and_a_region_is_needed() {
        let keyed = config::Vendor { api_key: Some("k".to_owned().into()), ..configured() };
        let bedrock = Bedrock::new(&keyed).expect("a usable configuration");
        assert!(matches!(bedrock.caller, Caller::Bearer));
        assert_eq!(bedrock.headers[AUTHORIZATION], "Bearer k");
        let homeless = config::Vendor { region: None, ..configured() };
        let kind = Bedrock::new(&homeless).err().map(|error| error.kind);
        assert_eq!(kind, Some(ProviderErrorKind::Auth));
    }
}
