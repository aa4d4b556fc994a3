//! Which text and search providers a replica has, from its configuration.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::circuit::Policy;
use crate::actors::generation::{TextProviders, TextSpec};
use crate::config::Config;
use crate::providers::remote_text;
use crate::providers::search::{SearchProvider, search_provider};
use crate::providers::storyteller::StorytellerProvider;
use crate::providers::text::TextProvider;

/// Text streams that the storyteller may open at the same moment.
const STORYTELLER_CONCURRENCY: usize = 64;
/// Longest that the storyteller may take to begin.
const STORYTELLER_DEADLINE: Duration = Duration::from_secs(10);

/// The configured providers that can be used, the storyteller last. A provider that cannot be used is no reason not to
/// start: others stand in for it.
pub(super) fn text_providers(config: &Config, circuit: &Policy) -> TextProviders {
    let providers = &config.providers;
    let mut specs = Vec::new();
    for (name, vendor) in providers.wanted() {
        if !vendor.is_configured() && !providers.is_chosen() {
            continue;
        }
        match remote_text(name, vendor) {
            Ok(provider) => specs.push(TextSpec {
                provider,
                concurrency: vendor.max_concurrency,
                open_deadline: (vendor.connect_timeout + vendor.first_byte_timeout)
                    * vendor.max_attempts.max(1),
            }),
            Err(error) => tracing::warn!(provider = name, %error, "text provider is left out"),
        }
    }
    for name in providers.idle() {
        tracing::warn!(
            provider = name,
            "text provider is configured and providers.text does not name it"
        );
    }
    let storyteller = StorytellerProvider::new(providers.storyteller.words_per_second);
    specs.push(TextSpec {
        provider: Arc::new(storyteller) as Arc<dyn TextProvider>,
        concurrency: STORYTELLER_CONCURRENCY,
        open_deadline: STORYTELLER_DEADLINE,
    });
    TextProviders::new(specs, circuit).hedged(providers.hedge.after, providers.hedge.budget)
}

/// Those that are named, in their order. One that cannot be used is done without, as it would be if it were away.
pub(super) fn search_providers(config: &Config) -> Vec<Arc<dyn SearchProvider>> {
    let named = config.search.providers.iter();
    let usable = named.filter_map(|kind| match search_provider(*kind, &config.search) {
        Ok(provider) => Some(provider),
        Err(error) => {
            tracing::warn!(provider = kind.as_str(), %error, "search provider is left out");
            None
        }
    });
    usable.collect()
}
