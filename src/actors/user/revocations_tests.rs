//! On a paused clock; two replicas share a store in memory that can go away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::actors::supervisor::{Excess, Supervisor, SupervisorArgs};
use crate::domain::user::Role;
use crate::storage::embedded::LocalRevocations;
use crate::storage::revocation::News;

const TTL: Duration = Duration::from_secs(900);

#[derive(Default)]
struct Shared {
    news: LocalRevocations,
    away: AtomicBool,
    whole_readings: AtomicU64,
}

#[async_trait]
impl RevocationStore for Shared {
    async fn publish(&self, revocation: Revocation, keep: Duration) -> Result<(), StoreError> {
        self.reach()?;
        self.news.publish(revocation, keep).await
    }

    async fn since(&self, position: Position) -> Result<News, StoreError> {
        self.reach()?;
        if position == Position::default() {
            self.whole_readings.fetch_add(1, Ordering::Relaxed);
        }
        self.news.since(position).await
    }
}

impl Shared {
    fn reach(&self) -> Result<(), StoreError> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("gone".into())),
            false => Ok(()),
        }
    }
}

/// A replica's revocations with their keeper.
async fn replica(store: &Arc<Shared>) -> Revocations {
    let revocations = Revocations::new(Arc::clone(store) as Arc<dyn RevocationStore>, TTL);
    let excess = Excess::Contain { revive_after: Duration::from_secs(60) };
    let args = SupervisorArgs { name: "root", children: vec![child(&revocations)], excess };
    Actor::spawn(None, Supervisor, args).await.unwrap();
    revocations
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn caller(user: u128, login: u128) -> Caller {
    Caller {
        user: UserId(Uuid::from_u128(user)),
        role: Role::Reader,
        login: LoginId(Uuid::from_u128(login)),
        expires_at: Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test(start_paused = true)]
async fn an_ended_login_is_known_here_at_once_and_everywhere_within_two_seconds() {
    let store = Arc::default();
    let (here, there) = (replica(&store).await, replica(&store).await);
    let (ada, on_her_phone) = (caller(1, 1), caller(1, 2));
    here.publish(Revocation::Ended(ada.login)).await;
    assert_eq!(here.standing(&ada), Standing::Ended);
    seconds(2).await;
    assert_eq!(there.standing(&ada), Standing::Ended);
    assert_eq!(there.standing(&on_her_phone), Standing::Good, "another login of hers goes on");
    assert_eq!(replica(&store).await.standing(&ada), Standing::Ended, "filled at the start");
}

#[tokio::test(start_paused = true)]
async fn a_suspension_ends_when_it_is_lifted_and_not_before() {
    let store = Arc::default();
    let (here, there) = (replica(&store).await, replica(&store).await);
    let (ada, bob) = (caller(1, 1), caller(2, 2));
    here.publish(Revocation::Suspended(ada.user)).await;
    seconds(2).await;
    // Over several readings, whole ones included.
    seconds(150).await;
    for replica in [&here, &there] {
        assert_eq!(replica.standing(&ada), Standing::Suspended);
        assert_eq!(replica.standing(&bob), Standing::Good);
    }
    there.publish(Revocation::Restored(ada.user)).await;
    assert_eq!(there.standing(&ada), Standing::Good);
    seconds(2).await;
    for _ in 0..130 {
        seconds(1).await;
        assert_eq!(here.standing(&ada), Standing::Good);
        assert_eq!(there.standing(&ada), Standing::Good, "no old news");
    }
    assert!(store.whole_readings.load(Ordering::Relaxed) >= 8);
}

#[tokio::test(start_paused = true)]
async fn what_no_token_can_outlive_is_forgotten() {
    let store = Arc::default();
    let here = replica(&store).await;
    for login in 0..100 {
        here.publish(Revocation::Ended(LoginId(Uuid::from_u128(login)))).await;
        here.publish(Revocation::Suspended(UserId(Uuid::from_u128(login)))).await;
    }
    assert_eq!(here.known(), 200);
    seconds(TTL.as_secs() + 2).await;
    assert_eq!(here.known(), 200, "clocks differ");
    seconds(TTL.as_secs() + 2 * SLACK.as_secs() + 2).await;
    assert_eq!(here.known(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_takes_nothing_back_and_ends_by_itself() {
    let store: Arc<Shared> = Arc::default();
    let (here, there) = (replica(&store).await, replica(&store).await);
    let (ada, bob, eve) = (caller(1, 1), caller(2, 2), caller(3, 3));
    here.publish(Revocation::Ended(ada.login)).await;
    here.publish(Revocation::Suspended(eve.user)).await;
    seconds(2).await;
    assert!(there.stale_for() <= Duration::from_secs(1));
    store.away.store(true, Ordering::Relaxed);
    here.publish(Revocation::Ended(bob.login)).await;
    there.publish(Revocation::Restored(eve.user)).await;
    seconds(60).await;
    assert!(there.stale_for() >= Duration::from_secs(59));
    assert_eq!(there.standing(&ada), Standing::Ended, "what is known stays known");
    assert_eq!(here.standing(&bob), Standing::Ended, "what happens here is known here");
    assert_eq!(there.standing(&bob), Standing::Good, "and not there");
    store.away.store(false, Ordering::Relaxed);
    seconds(3).await;
    assert_eq!(there.standing(&bob), Standing::Ended);
    assert_eq!(here.standing(&eve), Standing::Good);
    assert_eq!(there.standing(&eve), Standing::Good);
    assert!(there.stale_for() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_starts_although_the_store_is_away() {
    let store: Arc<Shared> = Arc::default();
    store.news.publish(Revocation::Ended(caller(1, 1).login), TTL).await.unwrap();
    store.away.store(true, Ordering::Relaxed);
    let late = replica(&store).await;
    seconds(10).await;
    assert_eq!(late.standing(&caller(1, 1)), Standing::Good);
    store.away.store(false, Ordering::Relaxed);
    seconds(2).await;
    assert_eq!(late.standing(&caller(1, 1)), Standing::Ended);
}

#[tokio::test(start_paused = true)]
async fn who_is_watched_is_told_and_nobody_else() {
    let store = Arc::default();
    let (here, there) = (replica(&store).await, replica(&store).await);
    let draining = CancellationToken::new();
    let (ada, on_her_phone, bob) = (caller(1, 1), caller(1, 2), caller(2, 3));
    let watches = [ada, on_her_phone, bob].map(|caller| there.watch(&caller, &draining));
    let told = || watches.each_ref().map(|watch| watch.told().is_cancelled());
    here.publish(Revocation::Ended(ada.login)).await;
    seconds(2).await;
    assert_eq!(told(), [true, false, false]);
    here.publish(Revocation::Suspended(ada.user)).await;
    seconds(2).await;
    assert_eq!(told(), [true, true, false]);
    assert!(there.watch(&ada, &draining).told().is_cancelled(), "too late is told at once");
    draining.cancel();
    assert_eq!(told(), [true; 3]);
    drop(watches);
    let left = there.watched();
    assert!(left.by_login.is_empty() && left.by_user.is_empty(), "nobody is watched for ever");
}
