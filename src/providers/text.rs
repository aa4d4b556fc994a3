//! The text capability: write the next scene of a scenario, streamed as it comes.
//!
//! A provider streams raw text in the **turn format** ([`crate::domain::turn_format`]): the prose, then the choices,
//! then a patch on the world state. Parsing it is the turn's business, not the provider's.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::Stream;

use super::prompt::Message;
use crate::domain::patch::Object;
use crate::domain::scenario::{Length, Scenario, Usage, Via};

/// What stays the same for all turns of a scenario.
#[derive(Debug, Clone)]
pub struct Brief {
    pub prompt: String,
    pub genre: Option<String>,
    pub tone: Option<String>,
    pub length: Length,
    /// BCP 47 tag.
    pub language: String,
    pub seed: u64,
}

impl Brief {
    pub fn of(scenario: &Scenario) -> Self {
        Self {
            prompt: scenario.prompt.clone(),
            genre: scenario.genre.clone(),
            tone: scenario.tone.clone(),
            length: scenario.length,
            language: scenario.language.clone(),
            seed: scenario.seed,
        }
    }
}

impl StoryRequest {
    /// For a scenario's first scene.
    pub fn first(brief: Brief) -> Self {
        Self {
            brief: Arc::new(brief),
            path: Arc::default(),
            chapters: Arc::default(),
            state: Arc::default(),
            via: Via::Prompt,
            variation: 0,
            shown: String::new(),
            prose_done: false,
            model: None,
        }
    }
}

/// An earlier scene on the way from the root to the one to be written.
#[derive(Debug, Clone)]
pub struct PastScene {
    pub via: Via,
    pub text: String,
}

/// Scenes on the way that were told in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chapter {
    /// Positions on the way from the root.
    pub scenes: Range<usize>,
    pub summary: String,
}

/// Everything a provider may use to write one scene.
#[derive(Debug, Clone)]
pub struct StoryRequest {
    pub brief: Arc<Brief>,
    /// Root first; the last one is the parent. Empty for the first scene.
    pub path: Arc<Vec<PastScene>>,
    /// Summaries of parts of the path, oldest first; there need not be any.
    pub chapters: Arc<Vec<Chapter>>,
    /// The world state after the parent.
    pub state: Arc<Object>,
    /// What the reader did to get here.
    pub via: Via,
    /// 0 for the first telling of a scene, higher for each retry of the same one: another text for the same action.
    pub variation: u32,
    /// Text of this scene that readers have already seen, by whoever wrote it. The provider goes on right after
    /// it and never repeats it.
    pub shown: String,
    /// The prose is whole (it is `shown`): only choices and patch are wanted.
    pub prose_done: bool,
    /// Model to use instead of the provider's default.
    pub model: Option<String>,
}

/// A conversation to be gone on with.
#[derive(Debug, Clone)]
pub struct Talk {
    /// The first is the system's; then the user's and the model's by turns, the user's last.
    pub messages: Vec<Message>,
    /// Most tokens of the answer; the provider's own limit holds as well.
    pub max_output_tokens: u32,
    /// Model to use instead of the provider's default.
    pub model: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TextChunk {
    /// Never empty.
    Text(String),
    /// The last item of a stream that ended well.
    End { reason: EndReason, usage: Usage },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    Complete,
    /// The model ran into its output limit.
    Length,
}

/// Micro-dollars for a million tokens; 0 where it is not known or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    pub input: u64,
    /// Of the part of the input that came from the vendor's cache.
    pub cached_input: u64,
    pub output: u64,
}

impl Price {
    /// In micro-dollars, rounded to the nearest; `cached` is the part of the input that came from the vendor's cache.
    pub fn of(&self, usage: Usage, cached: u64) -> u64 {
        let cached = cached.min(usage.input_tokens);
        let parts = [
            (usage.input_tokens - cached, self.input),
            (cached, self.cached_input),
            (usage.output_tokens, self.output),
        ];
        let millionths: u128 =
            parts.iter().map(|&(tokens, price)| u128::from(tokens) * u128::from(price)).sum();
        u64::try_from((millionths + 500_000) / 1_000_000).unwrap_or(u64::MAX)
    }
}

/// Dropping it abandons the call.
pub type TextStream = Pin<Box<dyn Stream<Item = Result<TextChunk, ProviderError>> + Send>>;

/// Which of the provider's deadlines ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    Connect,
    FirstByte,
    BetweenBytes,
    Whole,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderErrorKind {
    /// The credentials are missing, wrong or not allowed to do this.
    Auth,
    RateLimited {
        retry_after: Option<Duration>,
    },
    /// The vendor's 5xx, 529 and the like.
    Overloaded {
        retry_after: Option<Duration>,
    },
    /// The vendor refuses this very request; another try would be refused too.
    BadRequest,
    ContentFilter,
    Network,
    Timeout(Deadline),
    /// The vendor answered something that its protocol does not have, or broke off.
    Protocol,
    /// Moderation here does not let its text through.
    ContentBlocked,
    /// Moderation here cannot tell, and what nobody checked is not shown.
    Unchecked,
}

impl ProviderErrorKind {
    /// The `reason` of a `turn.failover`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            ProviderErrorKind::Auth => "auth",
            ProviderErrorKind::RateLimited { .. } => "rate_limited",
            ProviderErrorKind::Overloaded { .. } => "overloaded",
            ProviderErrorKind::BadRequest => "bad_request",
            ProviderErrorKind::ContentFilter => "content_filter",
            ProviderErrorKind::Network => "network",
            ProviderErrorKind::Timeout(_) => "timeout",
            ProviderErrorKind::Protocol => "protocol",
            ProviderErrorKind::ContentBlocked => "content_blocked",
            ProviderErrorKind::Unchecked => "moderation_unavailable",
        }
    }

    /// Whether this speaks against the provider (counts for its circuit) rather than against the request.
    pub const fn is_dependency_failure(&self) -> bool {
        !matches!(
            self,
            ProviderErrorKind::BadRequest
                | ProviderErrorKind::ContentFilter
                | ProviderErrorKind::ContentBlocked
                | ProviderErrorKind::Unchecked
        )
    }
}

/// `message` may quote the vendor; it goes to the log, never to a client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {message}", kind.as_str())]
pub struct ProviderError {
    pub kind: ProviderErrorKind,
    pub message: String,
}

impl ProviderError {
    pub fn new(kind: ProviderErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

#[async_trait]
pub trait TextProvider: Send + Sync + 'static {
    /// `openai`, `storyteller`, …: unique among the configured ones.
    fn name(&self) -> &str;

    /// The model that will be used for a request which names none.
    fn model(&self) -> &str;

    /// All models that a scenario may ask for, the usual one first; `*` stands for any.
    fn models(&self) -> Vec<String> {
        vec![self.model().to_owned()]
    }

    /// Whether it can be held to a schema where only choices and patch are asked for.
    fn constrains(&self) -> bool {
        false
    }

    fn price(&self) -> Price {
        Price::default()
    }

    /// Whether a stream that goes on after `shown` text never repeats any of it, so that nothing need be trimmed.
    fn continues_exactly(&self) -> bool {
        false
    }

    /// Whether all it writes was read by people before: then moderation lets it pass.
    fn is_trusted(&self) -> bool {
        false
    }

    /// Starts writing. Connect and first-byte deadlines and the retry before the first byte are the provider's own,
    /// and so are the between-bytes and whole-turn deadlines of the stream it returns.
    async fn open(&self, request: StoryRequest) -> Result<TextStream, ProviderError>;

    /// Starts answering in plain text, in no format of ours: for summaries and for talk about a story.
    async fn converse(&self, talk: Talk) -> Result<TextStream, ProviderError> {
        let _ = talk;
        let kind = ProviderErrorKind::BadRequest;
        Err(ProviderError::new(kind, "this provider tells stories and nothing else"))
    }

    /// Cheap round trip that tells whether the vendor answers and takes the credentials.
    async fn probe(&self) -> Result<(), ProviderError>;

    /// Most tokens that one call may write; `None`: calls are nobody's expense and are not counted.
    fn max_output_tokens(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_token_has_its_own_price() {
        // 3 dollars, 30 cents and 15 dollars a million.
        let price = Price { input: 3_000_000, cached_input: 300_000, output: 15_000_000 };
        let usage = Usage { input_tokens: 2_000, output_tokens: 300 };
        assert_eq!(price.of(usage, 0), 6_000 + 4_500);
        assert_eq!(price.of(usage, 1_500), 1_500 + 450 + 4_500);
        assert_eq!(price.of(usage, 9_999), 600 + 4_500, "no more is cached than there is");
        assert_eq!(Price::default().of(usage, 0), 0);
    }
}
