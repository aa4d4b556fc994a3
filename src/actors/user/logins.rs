//! What is known of logins beside their credentials, kept in a store that may be away.
//!
//! No request waits for that store to have written something: what signs in, refreshes or is used is noted here, and
//! the keeper (`logins_keeper.rs`), a child of the service, writes it down - a new login at once, uses every second. A
//! login's use is noted once a minute, so that a caller costs the store one write a minute however much is asked. Only
//! who lists or ends logins speaks to the store directly, and not for longer than a moment. While it is away changes wait
//! here, as many as there is room for; a login whose change is lost is shown without its device until its next refresh.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::clock::Clock;
use crate::config;
use crate::domain::ids::UserId;
use crate::domain::login::LoginSession;
use crate::domain::user::{Caller, LoginId};
use crate::storage::StoreError;
use crate::storage::login::LoginStore;
use crate::storage::user::Login;

/// Longest that one write may take.
const WRITE_DEADLINE: Duration = Duration::from_millis(500);
/// Writes under way at the same time, and those begun before the keeper looks up again.
pub(super) const AT_ONCE: usize = 64;
const MOST_AT_A_TIME: usize = 4_096;
/// Changes that wait; uses that are remembered as noted. Beyond it nothing is noted.
const MAX_WAITING: usize = 50_000;
const MAX_NOTED: usize = 200_000;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Logins(Arc<Inner>);

struct Inner {
    store: Arc<dyn LoginStore>,
    config: config::Logins,
    clock: Clock,
    /// When a use was last noted.
    noted: RwLock<HashMap<LoginId, Instant>>,
    waiting: Mutex<HashMap<LoginId, Change>>,
    /// Rings when there is something that should not wait for the next second.
    bell: Notify,
}

/// What the store is to be told of a login.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Record(Box<LoginSession>),
    Touch(UserId, Timestamp),
}

impl Change {
    /// Both, in one.
    fn then(self, newer: Change) -> Change {
        let used = self.used_at().max(newer.used_at());
        match (self, newer) {
            (_, Change::Record(mut login)) | (Change::Record(mut login), _) => {
                login.last_used_at = used;
                Change::Record(login)
            }
            (Change::Touch(user, _), Change::Touch(..)) => Change::Touch(user, used),
        }
    }

    fn used_at(&self) -> Timestamp {
        match self {
            Change::Record(login) => login.last_used_at,
            Change::Touch(_, at) => *at,
        }
    }
}

impl Logins {
    pub fn new(store: Arc<dyn LoginStore>, config: config::Logins, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            store,
            config,
            clock,
            noted: RwLock::default(),
            waiting: Mutex::default(),
            bell: Notify::new(),
        }))
    }

    /// Someone signed in or refreshed. Costs no time.
    pub fn begun(&self, login: LoginSession) {
        let mut noted = self.0.noted.write().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < MAX_NOTED {
            noted.insert(login.id, Instant::now());
        }
        drop(noted);
        self.note(login.id, Change::Record(Box::new(login)));
        self.0.bell.notify_one();
    }

    /// A token of this login was used. Costs no time: once a minute a place in a map, else a look.
    pub fn used(&self, caller: &Caller) {
        let now = Instant::now();
        let due = |noted: &HashMap<LoginId, Instant>| {
            let last = noted.get(&caller.login);
            last.is_none_or(|last| now.duration_since(*last) >= self.0.config.touch_every)
        };
        if !due(&self.0.noted.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut noted = self.0.noted.write().unwrap_or_else(PoisonError::into_inner);
        if !due(&noted) || noted.len() >= MAX_NOTED && !noted.contains_key(&caller.login) {
            return;
        }
        noted.insert(caller.login, now);
        drop(noted);
        // To the microsecond, as stores keep it.
        let now = self.0.clock.now();
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        self.note(caller.login, Change::Touch(caller.user, now));
    }

    /// What is known of the logins that `families` are the credentials of: all of them, whatever the store says. The
    /// last used first.
    pub async fn of_user(&self, user: UserId, families: Vec<Login>) -> Vec<LoginSession> {
        let known = self.ask("list", self.0.store.list_of_user(user)).await.unwrap_or_default();
        let known: HashMap<_, _> = known.into_iter().map(|login| (login.id, login)).collect();
        let waiting = self.waiting();
        let mut logins: Vec<_> = families
            .iter()
            .map(|family| merged(family, known.get(&family.id), waiting.get(&family.id)))
            .collect();
        drop(waiting);
        logins.sort_by_key(|login| std::cmp::Reverse((login.last_used_at, login.id)));
        logins
    }

    /// The login has ended.
    pub async fn ended(&self, user: UserId, login: LoginId) {
        self.waiting().remove(&login);
        self.ask("remove", self.0.store.remove(user, login)).await;
    }

    /// These logins, all of the user but `except`, have ended.
    pub async fn all_ended(&self, user: UserId, ended: &[LoginId], except: Option<LoginId>) {
        {
            let mut waiting = self.waiting();
            ended.iter().for_each(|login| drop(waiting.remove(login)));
        }
        self.ask("remove", self.0.store.remove_of_user(user, except)).await;
    }

    /// What the store answers within its time, if it does. Without it things go on.
    async fn ask<T>(
        &self,
        operation: &'static str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Option<T> {
        let reason = match timeout(self.0.config.store_timeout, answer).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", self.0.config.store_timeout),
        };
        count_failure(operation);
        tracing::warn!(operation, reason, "login sessions are done without");
        None
    }

    fn note(&self, login: LoginId, change: Change) {
        let mut waiting = self.waiting();
        let both = match waiting.remove(&login) {
            Some(older) => older.then(change),
            None => change,
        };
        insert(&mut waiting, login, both);
    }

    /// Puts back what could not be written, below what came since.
    fn put_back(&self, changes: impl IntoIterator<Item = (LoginId, Change)>) {
        let mut waiting = self.waiting();
        for (login, change) in changes {
            let both = match waiting.remove(&login) {
                Some(newer) => change.then(newer),
                None => change,
            };
            insert(&mut waiting, login, both);
        }
    }

    /// Returns when there is something that should be written at once.
    pub async fn bell(&self) {
        self.0.bell.notified().await;
    }

    /// Writes what waits, `first` changes to begin with; what cannot be written waits on.
    pub async fn write(&self, first: usize) -> Result<(), StoreError> {
        let mut changes: Vec<_> = {
            let mut waiting = self.waiting();
            let some: Vec<_> = waiting.keys().copied().take(MOST_AT_A_TIME).collect();
            some.into_iter().filter_map(|login| waiting.remove_entry(&login)).collect()
        };
        let mut at_once = first;
        while !changes.is_empty() {
            let rest = changes.split_off(changes.len().min(at_once));
            let batch = std::mem::replace(&mut changes, rest);
            at_once = AT_ONCE;
            let written = join_all(batch.iter().map(|(id, change)| self.write_one(*id, change)));
            let (outcomes, mut failure) = (written.await, None);
            for (change, outcome) in batch.into_iter().zip(outcomes) {
                if let Err(error) = outcome {
                    count_failure("write");
                    failure = Some(error);
                    self.put_back([change]);
                }
            }
            if let Some(error) = failure {
                self.put_back(changes);
                return Err(error);
            }
        }
        if !self.waiting().is_empty() {
            self.0.bell.notify_one();
        }
        Ok(())
    }

    async fn write_one(&self, id: LoginId, change: &Change) -> Result<(), StoreError> {
        let write = async {
            match change {
                Change::Record(login) => {
                    let left = login.expires_at.duration_since(self.0.clock.now());
                    match Duration::try_from(left) {
                        Ok(keep) if !keep.is_zero() => self.0.store.record(login, keep).await,
                        _ => Ok(()),
                    }
                }
                Change::Touch(user, at) => self.0.store.touch(*user, id, *at).await.map(drop),
            }
        };
        match timeout(WRITE_DEADLINE, write).await {
            Ok(outcome) => outcome,
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {WRITE_DEADLINE:?}"))),
        }
    }

    /// Forgets which uses were noted so long ago that the next one is noted again anyway.
    pub fn forget_old_notes(&self) {
        let now = Instant::now();
        let mut noted = self.0.noted.write().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|_, last| now.duration_since(*last) < self.0.config.touch_every);
    }

    pub fn touch_every(&self) -> Duration {
        self.0.config.touch_every
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<LoginId, Change>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn insert(waiting: &mut HashMap<LoginId, Change>, login: LoginId, change: Change) {
    if waiting.len() < MAX_WAITING {
        waiting.insert(login, change);
    } else {
        metrics::counter!("whatif_login_changes_lost_total").increment(1);
    }
}

/// The credential says which login it is and how long it is good; the rest is from whoever knows more.
fn merged(family: &Login, known: Option<&LoginSession>, waiting: Option<&Change>) -> LoginSession {
    let newest = match waiting {
        Some(Change::Record(login)) => Some(&**login),
        _ => known,
    };
    let used = [known.map(|known| known.last_used_at), waiting.map(Change::used_at)];
    LoginSession {
        id: family.id,
        user: family.user,
        client: newest.map(|login| login.client.clone()).unwrap_or_default(),
        created_at: family.created_at,
        last_used_at: used.into_iter().flatten().fold(family.last_used_at, Timestamp::max),
        expires_at: family.expires_at,
    }
}

fn count_failure(operation: &'static str) {
    metrics::counter!("whatif_login_store_failures_total", "operation" => operation).increment(1);
}

#[cfg(test)]
#[path = "logins_tests.rs"]
mod tests;
