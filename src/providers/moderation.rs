//! The moderation capability: tell whether a text may be shown to people.
//!
//! `wordlist` reads a list of words in this process, `openai` asks a server. Called by `actors::moderation` only, which
//! knows deadlines, circuits and what to do without an answer.

mod fold;
pub mod openai;
pub mod wordlist;

use async_trait::async_trait;

use super::text::ProviderError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Blocked {
        /// The checker's word for the reason, such as `violence`; shown to whoever wrote the text.
        category: String,
    },
}

#[async_trait]
pub trait ModerationProvider: Send + Sync + 'static {
    fn name(&self) -> &str;

    /// # Errors
    /// When it cannot tell; never because of what the text says.
    async fn check(&self, text: &str) -> Result<Verdict, ProviderError>;

    /// Cheap round trip that tells whether it answers and takes the credentials.
    async fn probe(&self) -> Result<(), ProviderError>;

    /// Whether it answers from memory, at once and always: then no pool and no deadline stand before it.
    fn is_local(&self) -> bool {
        false
    }
}
