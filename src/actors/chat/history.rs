//! What was said in a chat before: kept for a while, under its user's name, and done without when it is lost.
//!
//! A chat's id is no credential: who asks under another's id finds nothing there, as for an id that nobody has used.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::actors::cache::{Away, CacheHandle};
use crate::config;
use crate::domain::ids::{ChatId, ScenarioId, UserId};

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    pub question: String,
    pub answer: String,
}

impl Exchange {
    fn bytes(&self) -> usize {
        /// What the JSON adds, about; escapes are counted where it is written.
        const FRAME: usize = 32;
        self.question.len() + self.answer.len() + FRAME
    }
}

/// Where a chat is kept. Talk about one scenario is never found from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChatKey {
    pub user: UserId,
    pub scenario: Option<ScenarioId>,
    pub chat: ChatId,
}

impl ChatKey {
    fn name(&self) -> String {
        match self.scenario {
            Some(scenario) => format!("chat:{}:{scenario}:{}", self.user, self.chat),
            None => format!("chat:{}:-:{}", self.user, self.chat),
        }
    }
}

#[derive(Clone)]
pub struct Histories {
    cache: CacheHandle,
    config: config::Chat,
}

impl Histories {
    pub fn new(cache: CacheHandle, config: config::Chat) -> Self {
        Self { cache, config }
    }

    /// What was said, oldest first; nothing for what is lost, unreadable or was never there.
    ///
    /// # Errors
    /// [`Away`]: there may be something, and it must not be overwritten.
    pub async fn find(&self, key: &ChatKey) -> Result<Vec<Exchange>, Away> {
        let Some(bytes) = self.cache.find(&key.name()).await? else { return Ok(Vec::new()) };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(chat = %key.chat, %error, "what was said in a chat cannot be read");
            Vec::new()
        }))
    }

    /// Adds to what is kept now, and drops the oldest beyond the bounds.
    pub async fn add(&self, key: &ChatKey, exchange: Exchange) {
        // Read again: another replica may have answered meanwhile.
        let Ok(before) = self.find(key).await else { return };
        let mut kept: VecDeque<Exchange> = before.into();
        kept.push_back(exchange);
        let Some(json) = self.bounded(&mut kept) else { return };
        self.cache.keep(&key.name(), json, self.config.history_ttl).await;
    }

    /// As JSON within the bounds; `None` if nothing of it is.
    fn bounded(&self, kept: &mut VecDeque<Exchange>) -> Option<Bytes> {
        while kept.len() > self.config.history_exchanges
            || kept.iter().map(Exchange::bytes).sum::<usize>() > self.config.history_bytes
        {
            kept.pop_front();
        }
        while !kept.is_empty() {
            let json = serde_json::to_vec(&kept).ok()?;
            if json.len() <= self.config.history_bytes {
                return Some(json.into());
            }
            kept.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;
    use uuid::Uuid;

    use super::*;
    use crate::storage::StoreError;
    use crate::storage::cache::CacheStore;
    use crate::storage::embedded::LocalCache;

    /// A cache that can be taken away.
    struct Moody {
        cache: LocalCache,
        away: Arc<AtomicBool>,
    }

    #[async_trait]
    impl CacheStore for Moody {
        async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
            match self.away.load(Ordering::Relaxed) {
                true => Err(StoreError::Unavailable("as the test says".into())),
                false => self.cache.get(key).await,
            }
        }

        async fn put(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), StoreError> {
            self.cache.put(key, value, ttl).await
        }

        async fn remove(&self, key: &str) -> Result<(), StoreError> {
            self.cache.remove(key).await
        }
    }

    fn histories(config: config::Chat) -> (Histories, Arc<AtomicBool>) {
        let away = Arc::new(AtomicBool::new(false));
        let store = Moody { cache: LocalCache::new(1_000_000), away: Arc::clone(&away) };
        let cache = CacheHandle::new(&config::Cache::default(), Arc::new(store));
        (Histories::new(cache, config), away)
    }

    fn key(user: u128, scenario: Option<u128>, chat: u128) -> ChatKey {
        ChatKey {
            user: UserId(Uuid::from_u128(user)),
            scenario: scenario.map(|id| ScenarioId(Uuid::from_u128(id))),
            chat: ChatId(Uuid::from_u128(chat)),
        }
    }

    fn exchange(number: usize, bytes: usize) -> Exchange {
        Exchange { question: format!("q{number}"), answer: "a".repeat(bytes) }
    }

    #[tokio::test(start_paused = true)]
    async fn only_its_user_finds_a_chat_and_only_in_its_scenario() {
        let (histories, _) = histories(config::Chat::default());
        let mine = key(1, Some(2), 3);
        histories.add(&mine, exchange(1, 5)).await;
        histories.add(&mine, exchange(2, 5)).await;
        assert_eq!(histories.find(&mine).await, Ok(vec![exchange(1, 5), exchange(2, 5)]));
        for other in [key(9, Some(2), 3), key(1, Some(9), 3), key(1, None, 3), key(1, Some(2), 9)] {
            assert_eq!(histories.find(&other).await, Ok(vec![]), "{other:?}");
        }
        tokio::time::sleep(config::Chat::default().history_ttl).await;
        assert_eq!(histories.find(&mine).await, Ok(vec![]), "forgotten in time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_number_and_bytes() {
        let config =
            config::Chat { history_exchanges: 3, history_bytes: 2_000, ..config::Chat::default() };
        let (histories, _) = histories(config);
        let few = key(1, None, 1);
        for number in 0..9 {
            histories.add(&few, exchange(number, 10)).await;
        }
        let kept = histories.find(&few).await.unwrap();
        assert_eq!(kept, [exchange(6, 10), exchange(7, 10), exchange(8, 10)]);
        let large = key(1, None, 2);
        for number in 0..3 {
            histories.add(&large, exchange(number, 800)).await;
        }
        assert_eq!(histories.find(&large).await, Ok(vec![exchange(1, 800), exchange(2, 800)]));
        histories.add(&large, exchange(3, 5_000)).await;
        let kept = histories.find(&large).await.unwrap();
        assert!(!kept.contains(&exchange(3, 5_000)), "too large for itself");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_loses_nothing() {
        let (histories, away) = histories(config::Chat::default());
        let key = key(1, None, 1);
        histories.add(&key, exchange(1, 5)).await;
        away.store(true, Ordering::Relaxed);
        assert_eq!(histories.find(&key).await, Err(Away));
        histories.add(&key, exchange(2, 5)).await;
        away.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(histories.find(&key).await, Ok(vec![exchange(1, 5)]));
    }
}
