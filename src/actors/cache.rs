//! What can be had again, looked up before it is made: a cache that never fails and never makes anyone wait long.
//!
//! A store that is slow or away counts as a miss after a moment, and is left alone for a while. However many ask for
//! the same key in this process at the same time, it is looked up and filled once, and all get the outcome, failures
//! included; whoever gives up waiting ends nothing for the others. Replicas do not wait for one another: each may fill
//! once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use tokio::time::{Instant, timeout};

use crate::config;
use crate::error::ServiceError;
use crate::storage::StoreError;
use crate::storage::cache::CacheStore;

/// Longest that a fill may take: one that hangs must not hold up everyone who comes.
const FILL_DEADLINE: Duration = Duration::from_secs(10);
/// Keys that are filled at the same time; whoever comes on top fills without telling others.
const MAX_FLIGHTS: usize = 10_000;
/// How long a store is left alone after a failure, doubled with each that follows.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cache is away")]
pub struct Away;

type Outcome = Result<Bytes, ServiceError>;
type Flight = BoxFuture<'static, Outcome>;

/// The way in; cheap to clone.
#[derive(Clone)]
pub struct CacheHandle(Arc<Inner>);

struct Inner {
    store: Arc<dyn CacheStore>,
    deadline: Duration,
    flights: Mutex<Flights>,
    pause: Mutex<Pause>,
}

#[derive(Default)]
struct Flights {
    last: u64,
    /// By key; numbered, so that one which was made void is told from its successor.
    under_way: HashMap<Box<str>, (u64, WeakShared<Flight>)>,
}

/// After failures.
#[derive(Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl CacheHandle {
    pub fn new(config: &config::Cache, store: Arc<dyn CacheStore>) -> Self {
        Self(Arc::new(Inner {
            store,
            deadline: config.store_timeout,
            flights: Mutex::default(),
            pause: Mutex::default(),
        }))
    }

    /// What is kept under `key`, else what `fill` gives, which is then kept for `ttl`. `fill` runs at most once for all
    /// who ask at the same time, and not at all if nobody waits any more.
    ///
    /// # Errors
    /// What `fill` answers, to all who wait for it; `timeout` if it takes longer than 10 s. Never the cache's own.
    pub async fn get_or_fill<F>(&self, key: &str, ttl: Duration, fill: F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        self.join(key, ttl, fill).await
    }

    /// What is kept under `key`. For what cannot be made anew, and is done without.
    ///
    /// # Errors
    /// [`Away`] while the store does not answer in time: then nobody knows what it has.
    pub async fn find(&self, key: &str) -> Result<Option<Bytes>, Away> {
        let inner = &self.0;
        inner.ask("get", inner.store.get(key)).await.ok_or(Away)
    }

    /// Keeps `value` under `key` for `ttl`, if the store takes it.
    pub async fn keep(&self, key: &str, value: Bytes, ttl: Duration) {
        let inner = &self.0;
        inner.ask("put", inner.store.put(key, value, ttl)).await;
    }

    /// Forgets what is kept under `key`, and keeps nothing of what is being filled now: to be called after what it was
    /// made from has changed. Another replica that is filling it this very moment may keep the older one; so does
    /// everyone when the store cannot be reached, for as long as it was to be kept.
    pub async fn remove(&self, key: &str) {
        self.0.flights().under_way.remove(key);
        let inner = &self.0;
        inner.ask("remove", inner.store.remove(key)).await;
    }

    /// Takes a seat in the flight for `key`, or starts one.
    fn join<F>(&self, key: &str, ttl: Duration, fill: F) -> Shared<Flight>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut flights = self.0.flights();
        if let Some(flight) = flights.under_way.get(key).and_then(|(_, held)| held.upgrade()) {
            metrics::counter!("whatif_cache_total", "outcome" => "joined").increment(1);
            return flight;
        }
        flights.last += 1;
        let number = flights.last;
        let seat = Seat { inner: Arc::clone(&self.0), key: key.into(), number };
        let flight: Flight = Box::pin(async move { seat.fly(ttl, fill).await });
        let flight = flight.shared();
        if flights.under_way.len() < MAX_FLIGHTS
            && let Some(held) = flight.downgrade()
        {
            flights.under_way.insert(key.into(), (number, held));
        }
        flight
    }
}

/// One flight; gives its key back however it ends.
struct Seat {
    inner: Arc<Inner>,
    key: Box<str>,
    number: u64,
}

impl Seat {
    async fn fly(self, ttl: Duration, fill: impl Future<Output = Outcome>) -> Outcome {
        let inner = &self.inner;
        if let Some(value) = inner.get(&self.key).await {
            return Ok(value);
        }
        let filled = timeout(FILL_DEADLINE, fill).await;
        let value = filled.map_err(|_| ServiceError::timeout("the source of a cache"))??;
        if self.is_current() {
            inner.ask("put", inner.store.put(&self.key, value.clone(), ttl)).await;
        }
        Ok(value)
    }

    /// Whether nobody has forgotten the key since.
    fn is_current(&self) -> bool {
        let flights = self.inner.flights();
        flights.under_way.get(&self.key).is_some_and(|(number, _)| *number == self.number)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut flights = self.inner.flights();
        if flights.under_way.get(&self.key).is_some_and(|(number, _)| *number == self.number) {
            flights.under_way.remove(&self.key);
        }
    }
}

impl Inner {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let found = self.ask("get", self.store.get(key)).await;
        let outcome = match found {
            Some(Some(_)) => "hit",
            Some(None) => "miss",
            None => "away",
        };
        metrics::counter!("whatif_cache_total", "outcome" => outcome).increment(1);
        found.flatten()
    }

    /// What the store answers within its time; `None` if it does not, and while it is left alone.
    async fn ask<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let paused = self.pause().until.is_some_and(|until| until > Instant::now());
        if paused {
            return None;
        }
        let reason = match timeout(self.deadline, answer).await {
            Ok(Ok(answer)) => {
                self.succeeded();
                return Some(answer);
            }
            Ok(Err(error)) if !error.is_dependency_failure() => {
                tracing::warn!(operation, %error, "not cached");
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.deadline),
        };
        metrics::counter!("whatif_cache_failures_total", "operation" => operation).increment(1);
        self.failed(&reason);
        None
    }

    fn succeeded(&self) {
        let mut pause = self.pause();
        if pause.failures > 0 {
            *pause = Pause::default();
            tracing::info!("the cache is back");
        }
    }

    fn failed(&self, reason: &str) {
        let now = Instant::now();
        let mut pause = self.pause();
        // Those that were under way together fail as one.
        if pause.until.is_some_and(|until| until > now) {
            return;
        }
        if pause.failures == 0 {
            tracing::warn!(reason, "the cache is away: what it had is made anew");
        }
        let wait = SHORTEST_PAUSE.saturating_mul(2_u32.saturating_pow(pause.failures));
        pause.failures = pause.failures.saturating_add(1);
        pause.until = Some(now + wait.min(LONGEST_PAUSE));
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self) -> MutexGuard<'_, Pause> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
