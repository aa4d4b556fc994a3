//! On a paused clock; what is noted here reaches a store that can be slow or away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use ractor::{Actor, ActorCell};
use tokio::time::sleep;
use uuid::Uuid;

use super::super::logins_keeper;
use super::*;
use crate::actors::supervisor::{Excess, Supervisor, SupervisorArgs, stop_supervisor};
use crate::domain::login::{Client, Device};
use crate::domain::user::Role;
use crate::storage::embedded::LocalLogins;
use crate::storage::user::TokenHash;

#[derive(Default)]
struct Store {
    kept: LocalLogins,
    away: AtomicBool,
    /// Milliseconds that each call takes.
    slow: AtomicU64,
    records: AtomicU64,
    touches: AtomicU64,
    calls: AtomicU64,
}

impl Store {
    async fn reach(&self, counted: &AtomicU64) -> Result<(), StoreError> {
        counted.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(self.slow.load(Ordering::Relaxed))).await;
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("gone".into())),
            false => Ok(()),
        }
    }

    /// Records and touches that were tried.
    fn written(&self) -> (u64, u64) {
        (self.records.load(Ordering::Relaxed), self.touches.load(Ordering::Relaxed))
    }

    async fn of(&self, user: UserId) -> Vec<LoginSession> {
        self.kept.list_of_user(user).await.unwrap()
    }
}

#[async_trait]
impl LoginStore for Store {
    async fn record(&self, login: &LoginSession, keep: Duration) -> Result<(), StoreError> {
        self.reach(&self.records).await?;
        self.kept.record(login, keep).await
    }

    async fn touch(&self, user: UserId, login: LoginId, at: Timestamp) -> Result<bool, StoreError> {
        self.reach(&self.touches).await?;
        self.kept.touch(user, login, at).await
    }

    async fn list_of_user(&self, user: UserId) -> Result<Vec<LoginSession>, StoreError> {
        self.reach(&self.calls).await?;
        self.kept.list_of_user(user).await
    }

    async fn remove(&self, user: UserId, login: LoginId) -> Result<(), StoreError> {
        self.reach(&self.calls).await?;
        self.kept.remove(user, login).await
    }

    async fn remove_of_user(
        &self,
        user: UserId,
        except: Option<LoginId>,
    ) -> Result<(), StoreError> {
        self.reach(&self.calls).await?;
        self.kept.remove_of_user(user, except).await
    }
}

struct Fixture {
    store: Arc<Store>,
    logins: Logins,
    clock: Clock,
    root: ActorCell,
}

async fn start() -> Fixture {
    let store = Arc::<Store>::default();
    let clock = Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap());
    let held = Arc::clone(&store) as Arc<dyn LoginStore>;
    let logins = Logins::new(held, config::Logins::default(), clock.clone());
    let excess = Excess::Contain { revive_after: Duration::from_secs(60) };
    let children = vec![logins_keeper::child(&logins)];
    let args = SupervisorArgs { name: "root", children, excess };
    let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
    Fixture { store, logins, clock, root: root.get_cell() }
}

const ADA: UserId = UserId(Uuid::from_u128(1));

impl Fixture {
    /// A login of Ada's that begins now, from a device of that name.
    fn login(&self, id: u128, device: &str) -> LoginSession {
        let now = self.clock.now();
        LoginSession {
            id: LoginId(Uuid::from_u128(id)),
            user: ADA,
            client: Client { device: Device::new(device), address: None },
            created_at: now,
            last_used_at: now,
            expires_at: now + Duration::from_secs(1_000_000),
        }
    }

    fn since_start(&self, time: Timestamp) -> Duration {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        time.duration_since(start).try_into().unwrap()
    }
}

fn caller(id: u128) -> Caller {
    Caller {
        user: ADA,
        role: Role::Reader,
        login: LoginId(Uuid::from_u128(id)),
        expires_at: Timestamp::UNIX_EPOCH,
    }
}

/// The credential of a login, as the user store has it.
fn family(login: &LoginSession) -> Login {
    Login {
        id: login.id,
        user: login.user,
        current: TokenHash([0; 32]),
        previous: None,
        created_at: login.created_at,
        last_used_at: login.created_at,
        expires_at: login.expires_at,
        revoked_at: None,
    }
}

fn devices(logins: &[LoginSession]) -> Vec<Option<&str>> {
    logins.iter().map(|login| login.client.device.as_ref().map(Device::as_str)).collect()
}

async fn millis(millis: u64) {
    sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_login_is_written_at_once_and_its_uses_once_a_minute() {
    let f = start().await;
    f.logins.begun(f.login(1, "phone"));
    millis(1).await;
    assert_eq!(devices(&f.store.of(ADA).await), [Some("phone")]);
    // Two and a half minutes, ten times a second.
    for _ in 0..1_500 {
        f.logins.used(&caller(1));
        millis(100).await;
    }
    assert_eq!(f.store.written(), (1, 2));
    let used = f.since_start(f.store.of(ADA).await[0].last_used_at).as_secs();
    assert!((119..=121).contains(&used), "{used}");
    // Another one is counted by itself.
    f.logins.used(&caller(2));
    millis(1_100).await;
    assert_eq!(f.store.written(), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn signing_in_and_using_wait_for_nobody() {
    let f = start().await;
    f.store.slow.store(60_000, Ordering::Relaxed);
    let since = Instant::now();
    for id in 0..100 {
        f.logins.begun(f.login(id, "phone"));
        f.logins.used(&caller(id + 1_000));
    }
    assert_eq!(since.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_store_that_is_away_comes_in_one_and_with_the_newest() {
    let f = start().await;
    f.store.away.store(true, Ordering::Relaxed);
    f.logins.begun(f.login(1, "phone"));
    for _ in 0..10 {
        millis(61_000).await;
        f.logins.used(&caller(1));
    }
    // A refresh from another place, while it is away.
    f.logins.begun(LoginSession { created_at: f.login(1, "").created_at, ..f.login(1, "tablet") });
    millis(10_000).await;
    assert!(f.store.of(ADA).await.is_empty());
    let tried = f.store.written().0;
    assert!(tried <= 10 * 61 + 12, "one look a second: {tried}");
    f.store.away.store(false, Ordering::Relaxed);
    millis(2_000).await;
    let written = f.store.of(ADA).await;
    assert_eq!(devices(&written), [Some("tablet")]);
    assert!(f.since_start(written[0].last_used_at).as_secs() >= 610, "{written:?}");
    assert_eq!(f.store.written().1, 0, "uses went with the record");
}

#[tokio::test(start_paused = true)]
async fn a_list_has_every_login_that_is_good_whatever_the_store_knows() {
    let f = start().await;
    let (phone, tablet) = (f.login(1, "phone"), f.login(2, "tablet"));
    f.logins.begun(phone.clone());
    millis(70_000).await;
    f.logins.begun(tablet.clone());
    millis(1_000).await;
    let families = || vec![family(&phone), family(&tablet)];
    let list = f.logins.of_user(ADA, families()).await;
    assert_eq!(devices(&list), [Some("tablet"), Some("phone")], "the last used first");
    f.logins.used(&caller(1));
    let list = f.logins.of_user(ADA, families()).await;
    assert_eq!(devices(&list), [Some("phone"), Some("tablet")], "before it is written");

    // One that has ended but could not be forgotten is not shown: it is not in the families.
    assert_eq!(devices(&f.logins.of_user(ADA, vec![family(&phone)]).await), [Some("phone")]);

    // Restarted empty.
    f.store.kept.remove_of_user(ADA, None).await.unwrap();
    millis(2_000).await;
    let list = f.logins.of_user(ADA, families()).await;
    assert_eq!(devices(&list), [None, None]);
    assert_eq!(list.iter().map(|login| login.expires_at).max(), Some(tablet.expires_at));
    // A use does not bring it back, a refresh does.
    f.logins.used(&caller(1));
    f.logins.begun(f.login(1, "phone"));
    millis(2_000).await;
    assert_eq!(devices(&f.logins.of_user(ADA, families()).await), [Some("phone"), None]);

    // Away: what was not written yet is known here all the same.
    f.store.away.store(true, Ordering::Relaxed);
    f.logins.begun(f.login(2, "car"));
    millis(5_000).await;
    assert_eq!(devices(&f.logins.of_user(ADA, families()).await), [Some("car"), None]);
    f.store.slow.store(60_000, Ordering::Relaxed);
    let since = Instant::now();
    assert_eq!(f.logins.of_user(ADA, families()).await.len(), 2);
    assert_eq!(since.elapsed(), config::Logins::default().store_timeout);
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_forgotten_and_not_written_any_more() {
    let f = start().await;
    for id in 1..=4 {
        f.logins.begun(f.login(id, "phone"));
    }
    millis(1).await;
    f.logins.ended(ADA, caller(1).login).await;
    assert_eq!(f.store.of(ADA).await.len(), 3);
    f.store.away.store(true, Ordering::Relaxed);
    f.logins.begun(f.login(5, "tablet"));
    millis(1).await;
    f.logins.ended(ADA, caller(5).login).await;
    f.store.away.store(false, Ordering::Relaxed);
    millis(3_000).await;
    assert_eq!(f.store.of(ADA).await.len(), 3, "the fifth was never written");
    let ended = [2, 3].map(|id| caller(id).login);
    f.logins.all_ended(ADA, &ended, Some(caller(4).login)).await;
    assert_eq!(f.store.of(ADA).await[0].id, caller(4).login);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_while_the_store_is_away() {
    let f = start().await;
    f.store.away.store(true, Ordering::Relaxed);
    for id in 0..(MAX_WAITING as u128 + 1_000) {
        f.logins.note(LoginId(Uuid::from_u128(id)), Change::Touch(ADA, f.clock.now()));
    }
    assert_eq!(f.logins.waiting().len(), MAX_WAITING);
    millis(3_000).await;
    assert_eq!(f.logins.waiting().len(), MAX_WAITING, "nothing is lost by trying");
    f.store.away.store(false, Ordering::Relaxed);
    millis(3_000).await;
    assert!(f.logins.waiting().is_empty());
    assert!(f.store.written().1 >= MAX_WAITING as u64);
}

#[tokio::test(start_paused = true)]
async fn old_notes_are_forgotten() {
    let f = start().await;
    for id in 0..100 {
        f.logins.used(&caller(id));
    }
    millis(130_000).await;
    assert!(f.logins.0.noted.read().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_written_yet_is_written_at_the_end() {
    let f = start().await;
    f.logins.begun(f.login(1, "phone"));
    millis(70_000).await;
    f.logins.used(&caller(1));
    stop_supervisor(f.root.clone(), Duration::from_secs(5)).await;
    let used = f.since_start(f.store.of(ADA).await[0].last_used_at);
    assert_eq!(used.as_secs(), 70);
}
