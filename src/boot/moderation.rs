//! Who moderates, from the configuration.

use std::sync::Arc;

use anyhow::Context;

use crate::actors::circuit::Policy;
use crate::actors::moderation::{ModerationHandle, Spec};
use crate::config::{Config, Moderator};
use crate::providers::moderation::ModerationProvider;
use crate::providers::moderation::openai::{OpenAiModeration, Settings};
use crate::providers::moderation::wordlist::Wordlist;

/// The configured checker. One that cannot be used is a reason not to start: nobody would notice that it is missing.
pub(super) fn moderation(config: &Config, circuit: &Policy) -> anyhow::Result<ModerationHandle> {
    let wanted = &config.moderation;
    let (provider, pool): (Arc<dyn ModerationProvider>, _) = match wanted.provider {
        Moderator::None => return Ok(ModerationHandle::default()),
        Moderator::Wordlist => {
            let list = Wordlist::load(wanted.words_file.as_deref(), &wanted.words);
            (Arc::new(list.context("the word list cannot be used")?), "moderation.wordlist")
        }
        Moderator::OpenAi => {
            let vendor = config.providers.vendors.get("openai");
            // A key goes where it was meant to go: an address of its own does not get the other's key.
            let (api_key, base_url) = match &wanted.base_url {
                Some(url) => (wanted.api_key.clone(), Some(url.clone())),
                None => {
                    let key = vendor.and_then(|vendor| vendor.key().cloned());
                    let url = vendor.and_then(|vendor| vendor.base_url.clone());
                    (wanted.api_key.clone().or(key), url)
                }
            };
            let settings = Settings {
                api_key,
                base_url,
                model: wanted.model.clone(),
                thresholds: wanted.thresholds.clone(),
                timeout: wanted.timeout,
                max_concurrency: wanted.max_concurrency,
            };
            let checker = OpenAiModeration::new(settings);
            (Arc::new(checker.context("moderation by openai cannot be used")?), "moderation.openai")
        }
    };
    let spec = Spec {
        provider,
        pool,
        concurrency: wanted.max_concurrency,
        timeout: wanted.timeout,
        on_failure: wanted.on_failure,
        window_chars: wanted.window_chars,
    };
    Ok(ModerationHandle::new(spec, circuit))
}
