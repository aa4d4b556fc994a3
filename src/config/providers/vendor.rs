//! One vendor account or server: what it is asked for, how patiently, and what it costs.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// OpenAI, or any server that speaks its chat-completions format.
    OpenAi,
    Anthropic,
    Gemini,
    /// AWS Bedrock.
    Bedrock,
    Ollama,
}

impl Kind {
    pub const ALL: [Kind; 5] =
        [Kind::OpenAi, Kind::Anthropic, Kind::Gemini, Kind::Bedrock, Kind::Ollama];

    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::OpenAi => "openai",
            Kind::Anthropic => "anthropic",
            Kind::Gemini => "gemini",
            Kind::Bedrock => "bedrock",
            Kind::Ollama => "ollama",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// How a model is brought to go on with a scene that broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuation {
    /// As the model's name suggests.
    Auto,
    /// The text so far is the start of its answer.
    Prefill,
    /// It is shown the text so far and asked to go on.
    Ask,
}

#[derive(Debug, Clone)]
pub struct Vendor {
    pub kind: Kind,
    pub api_key: Option<SecretString>,
    /// Where it is, if not at the vendor's own address. Set alone it needs no key.
    pub base_url: Option<String>,
    /// Of Bedrock, which takes either `api_key` or these; neither: whatever AWS's usual chain finds.
    pub region: Option<String>,
    pub access_key_id: Option<SecretString>,
    pub secret_access_key: Option<SecretString>,
    pub session_token: Option<SecretString>,
    /// For scenarios that name none.
    pub model: String,
    /// Others that a scenario may name; `*` allows any.
    pub models: Vec<String>,
    pub max_output_tokens: u32,
    /// `None`: the vendor's default.
    pub temperature: Option<f64>,
    /// What Ollama is told to make room for, prompt and text together.
    pub context_tokens: u32,
    pub continuation: Continuation,
    /// Calls at the same time.
    pub max_concurrency: usize,
    /// Tries before the first text, the first included.
    pub max_attempts: u32,
    /// First wait between two tries.
    pub retry_base: Duration,
    /// Retries as a share of calls (0-1).
    pub retry_budget: f64,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
    pub between_bytes_timeout: Duration,
    pub whole_timeout: Duration,
    /// Micro-dollars for a million tokens.
    pub input_price: u64,
    pub cached_input_price: u64,
    pub output_price: u64,
}

impl Vendor {
    /// The defaults of a kind.
    pub fn of(kind: Kind) -> Self {
        let model = match kind {
            Kind::OpenAi => "gpt-4o-mini",
            Kind::Anthropic => "claude-haiku-4-5",
            Kind::Gemini => "gemini-3.5-flash-lite",
            Kind::Bedrock => "global.anthropic.claude-haiku-4-5-20251001-v1:0",
            Kind::Ollama => "llama3.2",
        };
        // A server of one's own loads its model first, and then has one machine for all.
        let own = kind == Kind::Ollama;
        Self {
            kind,
            api_key: None,
            base_url: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            model: model.into(),
            models: Vec::new(),
            max_output_tokens: 1_200,
            temperature: (kind == Kind::OpenAi).then_some(0.9),
            context_tokens: 12_288,
            continuation: Continuation::Auto,
            max_concurrency: if own { 16 } else { 256 },
            max_attempts: 3,
            retry_base: Duration::from_millis(250),
            retry_budget: 0.2,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(if own { 60 } else { 20 }),
            between_bytes_timeout: Duration::from_secs(10),
            whole_timeout: Duration::from_secs(120),
            input_price: 0,
            cached_input_price: 0,
            output_price: 0,
        }
    }

    /// Whether there is what it takes to call it. Bedrock's credentials are looked for when it is first called.
    pub fn is_configured(&self) -> bool {
        match self.kind {
            Kind::Bedrock => self.region.is_some(),
            Kind::Ollama => self.base_url.is_some(),
            Kind::OpenAi | Kind::Anthropic | Kind::Gemini => {
                self.key().is_some() || self.base_url.is_some()
            }
        }
    }

    /// The key, unless it is empty.
    pub fn key(&self) -> Option<&SecretString> {
        self.api_key.as_ref().filter(|key| !key.expose_secret().trim().is_empty())
    }

    /// Everything that must not be told.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretString> {
        let secrets =
            [&self.api_key, &self.access_key_id, &self.secret_access_key, &self.session_token];
        secrets.into_iter().flatten()
    }

    /// What a scenario may ask for, the usual one first.
    pub fn all_models(&self) -> Vec<String> {
        let others = self.models.iter().filter(|model| **model != self.model);
        std::iter::once(&self.model).chain(others).cloned().collect()
    }

    /// The key that breaks a rule, and the rule.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.model.trim().is_empty() || self.models.iter().any(|model| model.trim().is_empty()) {
            return Err(("model", "must not be empty"));
        }
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err(("access_key_id", "goes with secret_access_key: set both or neither"));
        }
        if !(0.0..=1.0).contains(&self.retry_budget) {
            return Err(("retry_budget", "must be from 0 to 1"));
        }
        if self.temperature.is_some_and(|heat| !(0.0..=2.0).contains(&heat)) {
            return Err(("temperature", "must be from 0 to 2"));
        }
        for (key, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("first_byte_timeout", self.first_byte_timeout),
            ("between_bytes_timeout", self.between_bytes_timeout),
            ("whole_timeout", self.whole_timeout),
        ] {
            if limit.is_zero() {
                return Err((key, "must be above 0"));
            }
        }
        for (key, count) in [
            ("max_concurrency", self.max_concurrency as u64),
            ("max_attempts", self.max_attempts.into()),
            ("max_output_tokens", self.max_output_tokens.into()),
            ("context_tokens", self.context_tokens.into()),
        ] {
            if count == 0 {
                return Err((key, "must be at least 1"));
            }
        }
        Ok(())
    }
}

/// What a section says.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Given {
    pub kind: Option<Kind>,
    api_key: Option<SecretString>,
    base_url: Option<String>,
    region: Option<String>,
    access_key_id: Option<SecretString>,
    secret_access_key: Option<SecretString>,
    session_token: Option<SecretString>,
    model: Option<String>,
    models: Option<Vec<String>>,
    max_output_tokens: Option<u32>,
    temperature: Option<f64>,
    context_tokens: Option<u32>,
    continuation: Option<Continuation>,
    max_concurrency: Option<usize>,
    max_attempts: Option<u32>,
    #[serde(with = "humantime_serde")]
    retry_base: Option<Duration>,
    retry_budget: Option<f64>,
    #[serde(with = "humantime_serde")]
    connect_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    first_byte_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    between_bytes_timeout: Option<Duration>,
    #[serde(with = "humantime_serde")]
    whole_timeout: Option<Duration>,
    input_price: Option<u64>,
    cached_input_price: Option<u64>,
    output_price: Option<u64>,
}

impl Given {
    /// With the defaults of a kind for what it does not say.
    pub fn or(self, default: Vendor) -> Vendor {
        Vendor {
            kind: default.kind,
            api_key: self.api_key.or(default.api_key),
            base_url: self.base_url.or(default.base_url),
            region: self.region.or(default.region),
            access_key_id: self.access_key_id.or(default.access_key_id),
            secret_access_key: self.secret_access_key.or(default.secret_access_key),
            session_token: self.session_token.or(default.session_token),
            model: self.model.unwrap_or(default.model),
            models: self.models.unwrap_or(default.models),
            max_output_tokens: self.max_output_tokens.unwrap_or(default.max_output_tokens),
            temperature: self.temperature.or(default.temperature),
            context_tokens: self.context_tokens.unwrap_or(default.context_tokens),
            continuation: self.continuation.unwrap_or(default.continuation),
            max_concurrency: self.max_concurrency.unwrap_or(default.max_concurrency),
            max_attempts: self.max_attempts.unwrap_or(default.max_attempts),
            retry_base: self.retry_base.unwrap_or(default.retry_base),
            retry_budget: self.retry_budget.unwrap_or(default.retry_budget),
            connect_timeout: self.connect_timeout.unwrap_or(default.connect_timeout),
            first_byte_timeout: self.first_byte_timeout.unwrap_or(default.first_byte_timeout),
            between_bytes_timeout: self
                .between_bytes_timeout
                .unwrap_or(default.between_bytes_timeout),
            whole_timeout: self.whole_timeout.unwrap_or(default.whole_timeout),
            input_price: self.input_price.unwrap_or(default.input_price),
            cached_input_price: self.cached_input_price.unwrap_or(default.cached_input_price),
            output_price: self.output_price.unwrap_or(default.output_price),
        }
    }
}
