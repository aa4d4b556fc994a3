//! What whatif buys or borrows from others, by capability; one file or folder per vendor.
//!
//! Called by turns and service workers only. A provider knows its vendor's wire format and nothing of sessions,
//! logs or readers.

mod anthropic;
mod bedrock;
pub mod budget;
mod gemini;
pub mod moderation;
mod ollama;
mod openai;
pub mod prompt;
mod remote;
pub mod search;
pub mod storyteller;
pub mod text;

use std::sync::Arc;

use self::remote::Remote;
use self::text::{ProviderError, TextProvider};
use crate::config::{Kind, Vendor};

/// The provider of this name, as configured. Nothing is asked over the network yet.
///
/// # Errors
/// `Auth` without credentials, `BadRequest` for an address or a key that cannot be used.
pub fn remote_text(name: &str, config: &Vendor) -> Result<Arc<dyn TextProvider>, ProviderError> {
    Ok(match config.kind {
        Kind::OpenAi => Arc::new(Remote::new(name, config, openai::OpenAi::new(config)?)?),
        Kind::Anthropic => Arc::new(Remote::new(name, config, anthropic::Anthropic::new(config)?)?),
        Kind::Gemini => Arc::new(Remote::new(name, config, gemini::Gemini::new(config)?)?),
        Kind::Bedrock => Arc::new(Remote::new(name, config, bedrock::Bedrock::new(config)?)?),
        Kind::Ollama => Arc::new(Remote::new(name, config, ollama::Ollama::new(config)?)?),
    })
}
