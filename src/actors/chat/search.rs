//! The world's side of looking things up: the configured search providers, a supervised pool each, behind a cache.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::actors::cache::CacheHandle;
use crate::actors::circuit::Policy;
use crate::actors::pool::{self, PoolHandle, PoolSpec, PoolView, Reply, Trip, TripKind, Work};
use crate::actors::supervisor::{ChildSpec, Intensity};
use crate::config;
use crate::error::ServiceError;
use crate::providers::search::{Found, SearchProvider, SearchQuery};

/// What a pool gives a search beyond the provider's own time.
const GRACE: Duration = Duration::from_millis(500);

/// What came of asking.
#[derive(Debug, Clone, PartialEq)]
pub enum Searched {
    /// Maybe nothing.
    Found(Vec<Found>),
    /// Nobody is configured.
    Off,
    /// Nobody answered.
    Away,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Searcher {
    engines: Arc<[Engine]>,
    cache: CacheHandle,
    ttl: Duration,
    most: usize,
}

struct Engine {
    name: &'static str,
    pool: PoolHandle<SearchWork>,
}

impl Searcher {
    pub fn new(
        providers: Vec<Arc<dyn SearchProvider>>,
        config: &config::Search,
        cache: CacheHandle,
        circuit: &Policy,
    ) -> Self {
        let engine = |provider: Arc<dyn SearchProvider>| Engine {
            name: provider.name(),
            pool: PoolHandle::new(
                PoolSpec {
                    name: pool_name(provider.name()),
                    workers: config.max_concurrency,
                    capacity: config.max_concurrency.saturating_mul(2),
                    deadline: config.timeout + GRACE,
                    panics: Intensity::new(5, Duration::from_secs(10)),
                    circuit: circuit.clone(),
                },
                SearchWork(provider),
            ),
        };
        Self {
            engines: providers.into_iter().map(engine).collect(),
            cache,
            ttl: config.cache_ttl,
            most: config.max_results,
        }
    }

    /// Whether anybody is configured.
    pub fn is_on(&self) -> bool {
        !self.engines.is_empty()
    }

    pub fn children(&self) -> Vec<ChildSpec> {
        self.engines.iter().map(|engine| pool::child(&engine.pool)).collect()
    }

    pub fn views(&self) -> Vec<Arc<dyn PoolView>> {
        self.engines.iter().map(|engine| engine.pool.view()).collect()
    }

    /// Asks one after the other until one finds something.
    pub async fn search(&self, text: &str, language: &str) -> Searched {
        let query =
            SearchQuery { text: text.to_owned(), language: language.to_owned(), most: self.most };
        let mut searched = if self.engines.is_empty() { Searched::Off } else { Searched::Away };
        for engine in &*self.engines {
            let outcome = match self.ask(engine, &query).await {
                Ok(found) if !found.is_empty() => {
                    count(engine.name, "found");
                    return Searched::Found(found);
                }
                Ok(_) => {
                    searched = Searched::Found(Vec::new());
                    "nothing"
                }
                Err(error) => {
                    tracing::debug!(provider = engine.name, %error, "no search");
                    "away"
                }
            };
            count(engine.name, outcome);
        }
        searched
    }

    async fn ask(&self, engine: &Engine, query: &SearchQuery) -> Result<Vec<Found>, ServiceError> {
        let key = cache_key(engine.name, query);
        let (pool, query) = (engine.pool.clone(), query.clone());
        let fill = async move {
            let found = pool.call(|reply| Job { query, reply }).await?;
            serde_json::to_vec(&found).map(Bytes::from).map_err(|_| ServiceError::internal())
        };
        let kept = self.cache.get_or_fill(&key, self.ttl, fill).await;
        kept.and_then(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error| {
                tracing::warn!(provider = engine.name, %error, "a kept search cannot be read");
                ServiceError::internal()
            })
        })
    }
}

fn count(provider: &'static str, outcome: &'static str) {
    metrics::counter!("whatif_searches_total", "provider" => provider, "outcome" => outcome)
        .increment(1);
}

/// The same for the same words, whatever their case and space; who asked is no part of it.
fn cache_key(provider: &str, query: &SearchQuery) -> String {
    use std::fmt::Write;
    let words: Vec<String> = query.text.split_whitespace().map(str::to_lowercase).collect();
    let text = words.join(" ");
    let language = query.language.to_lowercase();
    let whole = format!("{provider}\n{language}\n{}\n{text}", query.most);
    let mut key = format!("search:{provider}:");
    for byte in digest::digest(&digest::SHA256, whole.as_bytes()).as_ref() {
        let _ = write!(key, "{byte:02x}");
    }
    key
}

/// Pools have names that live as long as the process.
fn pool_name(provider: &str) -> &'static str {
    match provider {
        "searxng" => "search.searxng",
        "tavily" => "search.tavily",
        "wikipedia" => "search.wikipedia",
        _ => "search.other",
    }
}

struct Job {
    query: SearchQuery,
    reply: Reply<Vec<Found>>,
}

struct SearchWork(Arc<dyn SearchProvider>);

impl Work for SearchWork {
    type Job = Job;

    async fn run(&self, job: Job) -> Result<(), Trip> {
        job.reply.answer(self.0.search(&job.query).await)
    }

    async fn probe(&self) -> Result<(), Trip> {
        let probed = self.0.probe().await;
        probed.map_err(|error| Trip::new(TripKind::Unavailable, error.to_string()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use ractor::{Actor, ActorCell};

    use super::*;
    use crate::actors::supervisor::{Excess, Supervisor, SupervisorArgs};
    use crate::providers::text::{ProviderError, ProviderErrorKind};
    use crate::storage::embedded::LocalCache;

    /// Finds what it is told to, and counts.
    #[derive(Default)]
    pub struct Scripted {
        pub name: &'static str,
        pub plans: Mutex<VecDeque<Result<usize, ProviderErrorKind>>>,
        pub asked: AtomicUsize,
    }

    #[async_trait]
    impl SearchProvider for Scripted {
        fn name(&self) -> &'static str {
            self.name
        }

        async fn search(&self, query: &SearchQuery) -> Result<Vec<Found>, ProviderError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let plan = self.plans.lock().unwrap().pop_front();
            let count = plan.unwrap_or(Ok(1)).map_err(|kind| ProviderError::new(kind, ""))?;
            let found = |number| Found {
                title: format!("{} {number}", self.name),
                url: format!("https://{}.example/{number}", self.name),
                snippet: format!("On {}.", query.text),
            };
            Ok((0..count.min(query.most)).map(found).collect())
        }

        async fn probe(&self) -> Result<(), ProviderError> {
            Ok(())
        }
    }

    pub fn scripted(
        name: &'static str,
        plans: impl IntoIterator<Item = Result<usize, ProviderErrorKind>>,
    ) -> Arc<Scripted> {
        let plans = Mutex::new(plans.into_iter().collect());
        Arc::new(Scripted { name, plans, asked: AtomicUsize::new(0) })
    }

    pub async fn searcher(engines: &[&Arc<Scripted>], min_calls: u32) -> (Searcher, ActorCell) {
        let cache =
            CacheHandle::new(&config::Cache::default(), Arc::new(LocalCache::new(1_000_000)));
        let circuits = config::Circuits { min_calls, ..config::Circuits::default() };
        let providers = engines.iter().map(|one| Arc::clone(one) as Arc<dyn SearchProvider>);
        let searcher = Searcher::new(
            providers.collect(),
            &config::Search::default(),
            cache,
            &Policy::from(&circuits),
        );
        let excess = Excess::Contain { revive_after: Duration::from_secs(30) };
        let args = SupervisorArgs { name: "root", children: searcher.children(), excess };
        let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
        (searcher, root.get_cell())
    }

    fn found(searched: Searched) -> usize {
        match searched {
            Searched::Found(found) => found.len(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_is_asked_until_one_finds_something() {
        let network = || Err(ProviderErrorKind::Network);
        let one = scripted("searxng", [Ok(2), Ok(0), network(), Ok(0), network()]);
        let other = scripted("wikipedia", [Ok(3), Ok(1), Ok(0), network()]);
        let (searcher, _root) = searcher(&[&one, &other], 100).await;
        let ask = async |words: &str| searcher.search(words, "en").await;
        assert_eq!(found(ask("first").await), 2);
        assert_eq!(other.asked.load(Ordering::SeqCst), 0, "one has found something");
        assert_eq!(found(ask("second").await), 3, "one has found nothing");
        assert_eq!(found(ask("third").await), 1, "one is away");
        assert_eq!(ask("fourth").await, Searched::Found(vec![]));
        assert_eq!(ask("fifth").await, Searched::Away);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_where_nobody_is_configured() {
        let (searcher, _root) = searcher(&[], 1).await;
        assert_eq!(searcher.search("rome", "en").await, Searched::Off);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_question_is_asked_once_for_a_while_and_failures_are_not_kept() {
        let one = scripted("searxng", [Err(ProviderErrorKind::Network)]);
        let (searcher, _root) = searcher(&[&one], 100).await;
        assert_eq!(searcher.search("rome", "en").await, Searched::Away);
        for words in ["rome", "Rome ", " ROME"] {
            assert_eq!(found(searcher.search(words, "en").await), 1);
        }
        assert_eq!(one.asked.load(Ordering::SeqCst), 2);
        searcher.search("rome", "fr").await;
        assert_eq!(one.asked.load(Ordering::SeqCst), 3, "another language is another question");
        tokio::time::sleep(config::Search::default().cache_ttl).await;
        searcher.search("rome", "en").await;
        assert_eq!(one.asked.load(Ordering::SeqCst), 4, "kept for a while only");
    }

    #[tokio::test(start_paused = true)]
    async fn who_keeps_failing_is_left_alone_until_a_probe_succeeds() {
        let one = scripted("searxng", vec![Err(ProviderErrorKind::Network); 2]);
        let (searcher, _root) = searcher(&[&one], 2).await;
        for words in ["a b", "c d", "e f"] {
            assert_eq!(searcher.search(words, "en").await, Searched::Away);
        }
        assert_eq!(one.asked.load(Ordering::SeqCst), 2, "the circuit is open");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(found(searcher.search("g h", "en").await), 1);
    }
}
