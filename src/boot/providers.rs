//! Which text providers a replica has, from its configuration.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::circuit::Policy;
use crate::actors::generation::{TextProviders, TextSpec};
use crate::config::Config;
use crate::providers::openai::OpenAiProvider;
use crate::providers::storyteller::StorytellerProvider;
use crate::providers::text::TextProvider;

/// Text streams that the storyteller may open at the same moment.
const STORYTELLER_CONCURRENCY: usize = 64;
/// Longest that the storyteller may take to begin.
const STORYTELLER_DEADLINE: Duration = Duration::from_secs(10);

/// The configured providers that can be used, the storyteller last.
pub(super) fn text_providers(config: &Config, circuit: &Policy) -> TextProviders {
    let mut specs = Vec::new();
    for name in &config.providers.text {
        if name == "openai" {
            let openai = &config.providers.openai;
            if !openai.is_configured() {
                continue;
            }
            match OpenAiProvider::new(openai) {
                Ok(provider) => specs.push(TextSpec {
                    provider: Arc::new(provider),
                    concurrency: openai.max_concurrency,
                    open_deadline: (openai.connect_timeout + openai.first_byte_timeout)
                        * openai.max_attempts.max(1),
                }),
                Err(error) => tracing::warn!(%error, "provider openai is left out"),
            }
        }
    }
    let storyteller = StorytellerProvider::new(config.providers.storyteller.words_per_second);
    specs.push(TextSpec {
        provider: Arc::new(storyteller) as Arc<dyn TextProvider>,
        concurrency: STORYTELLER_CONCURRENCY,
        open_deadline: STORYTELLER_DEADLINE,
    });
    TextProviders::new(specs, circuit)
}
