//! On a paused clock, with a shared store that does as it is told.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;

use super::*;
use crate::storage::StoreError;

/// Counts like the local one, as long as it is there.
#[derive(Default)]
struct Elsewhere {
    counts: LocalRateLimiter,
    hangs: AtomicBool,
    refuses: AtomicBool,
    lies: AtomicBool,
    calls: AtomicU64,
}

#[async_trait]
impl RateLimiter for Elsewhere {
    async fn check(&self, asks: &[Ask]) -> Result<Vec<Decision>, StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.refuses.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("gone".into()));
        }
        let mut decisions = self.counts.check(asks).await?;
        if self.lies.load(Ordering::Relaxed) {
            decisions.pop();
        }
        Ok(decisions)
    }
}

impl Elsewhere {
    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

fn origin(text: &str) -> Origin {
    Origin::of(text.parse().unwrap())
}

fn user(number: u128) -> UserId {
    UserId(uuid::Uuid::from_u128(number))
}

fn alone(config: config::Limits) -> LimitsHandle {
    LimitsHandle::new(&config, None)
}

fn shared() -> (Arc<Elsewhere>, LimitsHandle) {
    let elsewhere = Arc::new(Elsewhere::default());
    let store = Arc::clone(&elsewhere) as Arc<dyn RateLimiter>;
    (elsewhere, LimitsHandle::new(&config::Limits::default(), Some(store)))
}

fn allowed(decisions: &[Decision]) -> bool {
    decisions.iter().all(|decision| decision.allowed)
}

#[test]
fn an_origin_is_a_host_or_a_network_of_version_6() {
    for (name, one, other, same) in [
        ("a host", "203.0.113.1", "203.0.113.1", true),
        ("its neighbour", "203.0.113.1", "203.0.113.2", false),
        ("one network", "2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true),
        ("the next network", "2001:db8:1:2::1", "2001:db8:1:3::1", false),
        ("version 4 within 6", "203.0.113.1", "::ffff:203.0.113.1", true),
        ("not every version 4 within 6", "::ffff:203.0.113.2", "::ffff:203.0.113.1", false),
    ] {
        assert_eq!(origin(one) == origin(other), same, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_class_has_its_limits() {
    let limits = alone(config::Limits::default());
    let (here, ada) = (origin("203.0.113.1"), Some(user(1)));
    for (class, user, expected) in [
        (Class::Common, None, vec![10_000]),
        (Class::Common, ada, vec![10_000, 1_000]),
        (Class::Auth, None, vec![10_000, 600]),
        (Class::Turn, ada, vec![10_000, 1_000, 60]),
        (Class::Turn, None, vec![10_000]),
    ] {
        let decisions = limits.request(class, here, user).await;
        let found: Vec<u32> = decisions.iter().map(|decision| decision.limit).collect();
        assert_eq!(found, expected, "{class:?} {user:?}");
        assert!(allowed(&decisions));
    }
}

#[tokio::test(start_paused = true)]
async fn turns_count_together_however_they_are_begun() {
    let limits = alone(config::Limits { turns_per_user: 2, ..config::Limits::default() });
    let here = origin("203.0.113.1");
    assert!(allowed(&limits.request(Class::Turn, here, Some(user(1))).await));
    assert!(limits.turn(user(1)).await.unwrap().allowed);
    assert!(!limits.turn(user(1)).await.unwrap().allowed);
    assert!(!allowed(&limits.request(Class::Turn, here, Some(user(1))).await));
    assert!(allowed(&limits.request(Class::Common, here, Some(user(1))).await));
    assert!(limits.turn(user(2)).await.unwrap().allowed);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(limits.turn(user(1)).await.unwrap().allowed);
}

#[tokio::test(start_paused = true)]
async fn guesses_are_counted_by_account_and_address() {
    let limits = alone(config::Limits { auth_per_account: 1, ..config::Limits::default() });
    let (here, there) = (origin("203.0.113.1"), origin("203.0.113.2"));
    for (name, origin, email, expected) in [
        ("the first", here, "ada@example.org", true),
        ("the second", here, "ada@example.org", false),
        ("written otherwise", here, " ADA@example.org", false),
        ("another account", here, "bob@example.org", true),
        ("from elsewhere", there, "ada@example.org", true),
    ] {
        assert_eq!(limits.account(origin, email).await.unwrap().allowed, expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_that_are_off_say_nothing() {
    let config = config::Limits { enabled: false, turns_per_user: 1, ..config::Limits::default() };
    let limits = alone(config);
    for _ in 0..3 {
        assert_eq!(limits.turn(user(1)).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_count_together_in_one_call() {
    let (elsewhere, one) = shared();
    let store = Arc::clone(&elsewhere) as Arc<dyn RateLimiter>;
    let other = LimitsHandle::new(&config::Limits::default(), Some(store));
    let mut passed = 0;
    for round in 0..80 {
        let replica = if round % 2 == 0 { &one } else { &other };
        let decisions = replica.request(Class::Turn, origin("203.0.113.1"), Some(user(1))).await;
        passed += usize::from(allowed(&decisions));
    }
    assert_eq!(passed, 60);
    assert_eq!(elsewhere.calls(), 80, "however many limits there are");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_costs_a_moment_and_then_nothing() {
    let (elsewhere, limits) = shared();
    elsewhere.hangs.store(true, Ordering::Relaxed);
    let since = Instant::now();
    for _ in 0..CIRCUIT.min_calls {
        assert!(limits.turn(user(1)).await.unwrap().allowed);
    }
    let waited = since.elapsed();
    assert!(waited <= Duration::from_millis(50) * CIRCUIT.min_calls + Duration::from_millis(9));
    let since = Instant::now();
    let mut passed = CIRCUIT.min_calls;
    while limits.turn(user(1)).await.unwrap().allowed {
        passed += 1;
    }
    assert_eq!(since.elapsed(), Duration::ZERO, "nobody waits");
    assert_eq!(passed, 60, "this replica counts for itself");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_back_is_used_again_by_itself() {
    for (name, fault) in [
        ("hangs", (|e| &e.hangs) as fn(&Elsewhere) -> &AtomicBool),
        ("refuses", |e| &e.refuses),
        ("lies", |e| &e.lies),
    ] {
        let (elsewhere, limits) = shared();
        // Some good calls first: they do not hide an outage for long.
        for _ in 0..3 {
            limits.turn(user(1)).await;
        }
        fault(&elsewhere).store(true, Ordering::Relaxed);
        for _ in 0..20 {
            assert!(limits.turn(user(1)).await.unwrap().allowed, "{name}");
        }
        let asked = elsewhere.calls();
        assert!(asked <= 3 + 5, "{name}: {asked} calls");
        // Nobody but the probe asks while it is away.
        tokio::time::sleep(Duration::from_secs(120)).await;
        let probed = elsewhere.calls() - asked;
        assert!((20..=60).contains(&probed), "{name}: {probed} probes");
        fault(&elsewhere).store(false, Ordering::Relaxed);
        tokio::time::sleep(CIRCUIT.backoff_max + Duration::from_millis(100)).await;
        let before = elsewhere.calls();
        limits.turn(user(1)).await;
        assert_eq!(elsewhere.calls(), before + 1, "{name}: back");
    }
}

#[tokio::test(start_paused = true)]
async fn the_probe_ends_with_the_replica() {
    let (elsewhere, limits) = shared();
    elsewhere.refuses.store(true, Ordering::Relaxed);
    for _ in 0..10 {
        limits.turn(user(1)).await;
    }
    drop(limits);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(Arc::strong_count(&elsewhere), 1);
}
