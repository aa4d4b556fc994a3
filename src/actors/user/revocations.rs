//! Which access tokens are honoured no more, although they have not run out.
//!
//! Access tokens are checked without asking anyone, so what ends one early has to be here already: every replica holds
//! all revocations younger than a token can be. They are filled in when the service starts, and read anew every second
//! by the keeper, a child of the service. Whoever holds a connection open has it [watched](Revocations::watch), and is
//! told at once. While the store is away what is known stays known, what happens here is known here, and is published
//! when the store is back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::actors::supervisor::ChildSpec;
use crate::domain::ids::UserId;
use crate::domain::user::{Caller, LoginId};
use crate::storage::StoreError;
use crate::storage::revocation::{Position, Revocation, RevocationStore};

/// How often the news is read, and how long a reading may take.
const EVERY: Duration = Duration::from_secs(1);
const READ_DEADLINE: Duration = Duration::from_millis(800);
/// Longest that the service's start waits for the store.
const FILL_DEADLINE: Duration = Duration::from_secs(2);
/// Longest that whoever ends a login waits until it is published; later it is still published, by the keeper.
const PUBLISH_DEADLINE: Duration = Duration::from_millis(250);
/// Readings between two that begin at the start: a store that lost its order, or its data, is believed again by then.
const WHOLE_EVERY: u32 = 60;
/// On top of a token's life: a token may be issued a moment after what revokes it, and clocks differ.
const SLACK: Duration = Duration::from_secs(60);
/// What waits to be published. A revocation that finds it full ends only what this replica honours.
const MAX_UNSENT: usize = 100_000;

/// How a caller stands, whose token is otherwise good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// The login has ended.
    Ended,
    /// The user is suspended.
    Suspended,
}

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Revocations(Arc<Inner>);

struct Inner {
    store: Arc<dyn RevocationStore>,
    keep: Duration,
    known: RwLock<Known>,
    unsent: Mutex<VecDeque<(Revocation, Instant)>>,
    watched: Mutex<Watched>,
    /// Held while the store is spoken to, so that a user's suspension and its end go out in their order.
    reading: tokio::sync::Mutex<Reading>,
    heard: Mutex<Instant>,
}

/// With the moment at which each is forgotten.
#[derive(Default)]
struct Known {
    ended: HashMap<LoginId, Instant>,
    suspended: HashMap<UserId, Instant>,
}

#[derive(Default)]
struct Reading {
    position: Position,
    /// Readings since the last one that began at the start.
    partial: u32,
}

#[derive(Default)]
struct Watched {
    next: u64,
    by_login: HashMap<LoginId, Vec<(u64, CancellationToken)>>,
    by_user: HashMap<UserId, Vec<(u64, CancellationToken)>>,
}

/// Watches one caller for as long as it is held.
pub struct Watch {
    number: u64,
    caller: Caller,
    told: CancellationToken,
    revocations: Revocations,
}

impl Watch {
    pub fn user(&self) -> UserId {
        self.caller.user
    }

    /// Cancelled when the caller's standing may have changed, or with the token that the watch was made from.
    pub fn told(&self) -> &CancellationToken {
        &self.told
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.revocations.watched();
        let Watched { by_login, by_user, .. } = &mut *watched;
        forget(by_login, &self.caller.login, self.number);
        forget(by_user, &self.caller.user, self.number);
    }
}

fn forget<K: std::hash::Hash + Eq>(
    all: &mut HashMap<K, Vec<(u64, CancellationToken)>>,
    key: &K,
    number: u64,
) {
    if let Some(watches) = all.get_mut(key) {
        watches.retain(|(watch, _)| *watch != number);
        if watches.is_empty() {
            all.remove(key);
        }
    }
}

impl Revocations {
    /// `access_ttl`: the life of an access token.
    pub fn new(store: Arc<dyn RevocationStore>, access_ttl: Duration) -> Self {
        Self(Arc::new(Inner {
            store,
            keep: access_ttl + SLACK,
            known: RwLock::default(),
            unsent: Mutex::default(),
            watched: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
            heard: Mutex::new(Instant::now()),
        }))
    }

    pub fn standing(&self, caller: &Caller) -> Standing {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.suspended.contains_key(&caller.user) {
            Standing::Suspended
        } else if known.ended.contains_key(&caller.login) {
            Standing::Ended
        } else {
            Standing::Good
        }
    }

    /// Has the caller watched. Whoever is told asks for the [`Self::standing`].
    pub fn watch(&self, caller: &Caller, parent: &CancellationToken) -> Watch {
        let told = parent.child_token();
        let mut watched = self.watched();
        watched.next += 1;
        let number = watched.next;
        watched.by_login.entry(caller.login).or_default().push((number, told.clone()));
        watched.by_user.entry(caller.user).or_default().push((number, told.clone()));
        drop(watched);
        if self.standing(caller) != Standing::Good {
            told.cancel();
        }
        Watch { number, caller: *caller, told, revocations: self.clone() }
    }

    /// Honoured here from now on, and by all replicas as soon as they have read of it. Never fails: what cannot be
    /// published yet is published later.
    pub async fn publish(&self, revocation: Revocation) {
        self.publish_all(&[revocation]).await;
    }

    /// As [`Self::publish`]: together they are waited for no longer than one.
    pub async fn publish_all(&self, revocations: &[Revocation]) {
        if revocations.is_empty() {
            return;
        }
        self.apply(revocations.iter().copied());
        let lost = {
            let mut unsent = self.unsent();
            let (until, room) = (Instant::now() + self.0.keep, MAX_UNSENT - unsent.len());
            unsent.extend(revocations.iter().take(room).map(|revocation| (*revocation, until)));
            revocations.len().saturating_sub(room)
        };
        if lost > 0 {
            tracing::error!(lost, "too many revocations wait to be published: some are lost");
        }
        let published = timeout(PUBLISH_DEADLINE, async {
            let _reading = self.0.reading.lock().await;
            self.send().await
        });
        match published.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a revocation is published later"),
            Err(_) => tracing::warn!("a revocation is published later: the store is slow"),
        }
    }

    /// Since when the store has not been read.
    pub fn stale_for(&self) -> Duration {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// Revocations that are held.
    pub fn known(&self) -> usize {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.ended.len() + known.suspended.len()
    }

    /// Publishes what waits, reads the news, forgets what is past.
    async fn keep_up(&self) -> Result<(), StoreError> {
        let mut reading = self.0.reading.lock().await;
        self.forget_past();
        self.send().await?;
        let whole = reading.partial >= WHOLE_EVERY;
        let from = if whole { Position::default() } else { reading.position };
        let news = self.0.store.since(from).await?;
        *reading = Reading {
            position: news.position,
            partial: if whole { 0 } else { reading.partial + 1 },
        };
        // What is said here and not yet out there is newer than the news.
        let unsent: Vec<Revocation> = self.unsent().iter().map(|(unsent, _)| *unsent).collect();
        let news = news.revocations.into_iter();
        self.apply(news.filter(|news| !unsent.iter().any(|unsent| same_user(*unsent, *news))));
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(())
    }

    /// Whoever calls this holds `reading`.
    async fn send(&self) -> Result<(), StoreError> {
        loop {
            let Some((revocation, _)) = self.unsent().front().copied() else { return Ok(()) };
            self.0.store.publish(revocation, self.0.keep).await?;
            self.unsent().pop_front();
        }
    }

    fn apply(&self, revocations: impl IntoIterator<Item = Revocation>) {
        let until = Instant::now() + self.0.keep;
        let mut told = Vec::new();
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        for revocation in revocations {
            let new = match revocation {
                Revocation::Ended(login) => known.ended.insert(login, until).is_none(),
                Revocation::Suspended(user) => known.suspended.insert(user, until).is_none(),
                Revocation::Restored(user) => {
                    known.suspended.remove(&user);
                    false
                }
            };
            if new {
                told.push(revocation);
            }
        }
        drop(known);
        let watched = self.watched();
        for revocation in told {
            let watches = match revocation {
                Revocation::Ended(login) => watched.by_login.get(&login),
                Revocation::Suspended(user) | Revocation::Restored(user) => {
                    watched.by_user.get(&user)
                }
            };
            watches.into_iter().flatten().for_each(|(_, told)| told.cancel());
        }
    }

    fn forget_past(&self) {
        let now = Instant::now();
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known.ended.retain(|_, until| *until > now);
        known.suspended.retain(|_, until| *until > now);
        drop(known);
        self.unsent().retain(|(_, until)| *until > now);
    }

    fn unsent(&self) -> MutexGuard<'_, VecDeque<(Revocation, Instant)>> {
        self.0.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn same_user(one: Revocation, other: Revocation) -> bool {
    use Revocation::{Restored, Suspended};
    match (one, other) {
        (Suspended(one) | Restored(one), Suspended(other) | Restored(other)) => one == other,
        _ => false,
    }
}

/// The keeper.
pub(super) fn child(revocations: &Revocations) -> ChildSpec {
    let revocations = revocations.clone();
    ChildSpec::permanent("revocations", move |parent| {
        let revocations = revocations.clone();
        Box::pin(async move {
            let (keeper, _) = Actor::spawn_linked(None, Keeper, revocations, parent).await?;
            Ok(keeper.get_cell())
        })
    })
}

struct Keeper;

struct Tick;

struct State {
    revocations: Revocations,
    /// Whether the last reading failed: an outage is told once.
    away: bool,
    ticker: JoinHandle<()>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl State {
    async fn keep_up(&mut self, deadline: Duration) {
        let error = match timeout(deadline, self.revocations.keep_up()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {} ms", deadline.as_millis())),
        };
        match (self.away, &error) {
            (false, Some(error)) => tracing::warn!(error, "revocations cannot be read"),
            (true, None) => tracing::info!("revocations are read again"),
            _ => {}
        }
        self.away = error.is_some();
    }
}

impl Actor for Keeper {
    type Msg = Tick;
    type State = State;
    type Arguments = Revocations;

    /// Reads once before anything is served.
    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        revocations: Revocations,
    ) -> Result<State, ActorProcessingErr> {
        let ticker = myself.send_interval(EVERY, || Tick);
        let mut state = State { revocations, away: false, ticker };
        state.keep_up(FILL_DEADLINE).await;
        Ok(state)
    }

    /// Nobody waits for the keeper, so it may wait for the store; not as long as to the next tick.
    async fn handle(
        &self,
        _myself: ActorRef<Tick>,
        _tick: Tick,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.keep_up(READ_DEADLINE).await;
        Ok(())
    }
}

#[cfg(test)]
#[path = "revocations_tests.rs"]
mod tests;
