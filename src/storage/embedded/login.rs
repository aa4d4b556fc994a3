//! Login sessions in memory, for a replica that is alone. They end with the process; the logins do not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::ids::UserId;
use crate::domain::login::LoginSession;
use crate::domain::user::LoginId;
use crate::storage::StoreError;
use crate::storage::login::{FOR_EVER, LoginStore, MAX_OF_USER};

/// Logins kept altogether, about half a kilobyte each.
const MAX_LOGINS: usize = 100_000;

pub struct LocalLogins {
    kept: Mutex<Kept>,
    max: usize,
}

#[derive(Default)]
struct Kept {
    by_user: HashMap<UserId, HashMap<LoginId, Entry>>,
    count: usize,
}

struct Entry {
    login: LoginSession,
    until: Instant,
}

impl Default for LocalLogins {
    fn default() -> Self {
        Self { kept: Mutex::default(), max: MAX_LOGINS }
    }
}

impl LocalLogins {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, entry: Entry) {
        let of_user = self.by_user.entry(entry.login.user).or_default();
        let before = of_user.len();
        of_user.insert(entry.login.id, entry);
        if of_user.len() > MAX_OF_USER
            && let Some(first) = of_user.iter().min_by_key(|(_, entry)| entry.until)
        {
            let first = *first.0;
            of_user.remove(&first);
        }
        self.count = self.count + of_user.len() - before;
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.count = 0;
        self.by_user.retain(|_, of_user| {
            of_user.retain(|_, entry| keep(entry));
            self.count += of_user.len();
            !of_user.is_empty()
        });
    }

    /// Forgets what is over; if that is too little, the tenth that ends first.
    fn make_room(&mut self, max: usize, now: Instant) {
        self.retain(|entry| entry.until > now);
        if self.count < max {
            return;
        }
        let mut ends: Vec<_> =
            self.by_user.values().flat_map(HashMap::values).map(|entry| entry.until).collect();
        let tenth = ends.len() / 10;
        let (_, last, _) = ends.select_nth_unstable(tenth);
        let last = *last;
        self.retain(|entry| entry.until > last);
    }
}

#[async_trait]
impl LoginStore for LocalLogins {
    async fn record(&self, login: &LoginSession, keep: Duration) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut kept = self.kept();
        let known = kept.by_user.get(&login.user).and_then(|of_user| of_user.get(&login.id));
        let mut login = login.clone();
        match known {
            Some(known) if known.until > now => {
                login.last_used_at = login.last_used_at.max(known.login.last_used_at);
            }
            Some(_) => {}
            None if kept.count >= self.max => kept.make_room(self.max, now),
            None => {}
        }
        kept.put(Entry { login, until: now + keep.min(FOR_EVER) });
        Ok(())
    }

    async fn touch(&self, user: UserId, login: LoginId, at: Timestamp) -> Result<bool, StoreError> {
        let now = Instant::now();
        let mut kept = self.kept();
        let known = kept.by_user.get_mut(&user).and_then(|of_user| of_user.get_mut(&login));
        let Some(known) = known.filter(|known| known.until > now) else { return Ok(false) };
        known.login.last_used_at = known.login.last_used_at.max(at);
        Ok(true)
    }

    async fn list_of_user(&self, user: UserId) -> Result<Vec<LoginSession>, StoreError> {
        let now = Instant::now();
        let kept = self.kept();
        let of_user = kept.by_user.get(&user).into_iter().flat_map(HashMap::values);
        Ok(of_user.filter(|entry| entry.until > now).map(|entry| entry.login.clone()).collect())
    }

    async fn remove(&self, user: UserId, login: LoginId) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let Some(of_user) = kept.by_user.get_mut(&user) else { return Ok(()) };
        let removed = usize::from(of_user.remove(&login).is_some());
        if of_user.is_empty() {
            kept.by_user.remove(&user);
        }
        kept.count -= removed;
        Ok(())
    }

    async fn remove_of_user(
        &self,
        user: UserId,
        except: Option<LoginId>,
    ) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let Some(mut of_user) = kept.by_user.remove(&user) else { return Ok(()) };
        kept.count -= of_user.len();
        of_user.retain(|login, _| Some(*login) == except);
        kept.count += of_user.len();
        if !of_user.is_empty() {
            kept.by_user.insert(user, of_user);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::login::Client;

    fn login(user: u128, id: u128) -> LoginSession {
        LoginSession {
            id: LoginId(Uuid::from_u128(id)),
            user: UserId(Uuid::from_u128(user)),
            client: Client::default(),
            created_at: Timestamp::UNIX_EPOCH,
            last_used_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
        }
    }

    /// What is counted, and that it is what is there.
    fn count(store: &LocalLogins) -> usize {
        let kept = store.kept();
        assert_eq!(kept.count, kept.by_user.values().map(HashMap::len).sum::<usize>());
        assert!(kept.by_user.values().all(|of_user| !of_user.is_empty()));
        kept.count
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_what_ends_first_goes_first() {
        let store = LocalLogins { max: 100, ..LocalLogins::default() };
        for id in 0..250_u64 {
            let keep = Duration::from_secs(1_000 + id);
            store.record(&login(u128::from(id) % 40, id.into()), keep).await.unwrap();
            assert!(count(&store) <= 100);
        }
        let newest = store.list_of_user(UserId(Uuid::from_u128(249 % 40))).await.unwrap();
        assert!(newest.iter().any(|login| login.id.0 == Uuid::from_u128(249)));
        assert!(newest.iter().all(|login| login.id.0 != Uuid::from_u128(9)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_goes_before_what_is_not() {
        let store = LocalLogins { max: 100, ..LocalLogins::default() };
        for id in 0..99 {
            store.record(&login(1, id), Duration::from_secs(1)).await.unwrap();
        }
        store.record(&login(2, 500), Duration::from_secs(5)).await.unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        store.record(&login(3, 501), Duration::from_secs(50)).await.unwrap();
        assert_eq!(count(&store), 2);
        assert_eq!(store.list_of_user(login(2, 0).user).await.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_removed_is_counted_out() {
        let store = LocalLogins::default();
        for id in 0..10 {
            store.record(&login(1, id), Duration::from_secs(1)).await.unwrap();
            store.record(&login(1, id), Duration::from_secs(1)).await.unwrap();
        }
        let ada = login(1, 0);
        assert_eq!(count(&store), 10);
        store.remove(ada.user, ada.id).await.unwrap();
        store.remove(ada.user, ada.id).await.unwrap();
        assert_eq!(count(&store), 9);
        store.remove_of_user(ada.user, Some(login(1, 5).id)).await.unwrap();
        assert_eq!(count(&store), 1);
        store.remove(ada.user, login(1, 5).id).await.unwrap();
        assert_eq!(count(&store), 0);
    }
}
