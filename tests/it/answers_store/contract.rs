//! What every back end of [`AnswerStore`] must do. Each calls [`run`] with an empty store.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use whatif::storage::idempotency::{AnswerKey, AnswerStore, Begun, Fingerprint, NewClaim};

pub async fn run(store: &dyn AnswerStore) {
    store.probe().await.unwrap();
    answers(store).await;
    abandoned(store).await;
    left_by_a_crash(store).await;
    race(store).await;
    expiry_and_purge(store).await;
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn key(scope: &str, key: &str) -> AnswerKey {
    AnswerKey { scope: scope.into(), key: key.into() }
}

/// A claim made at `second`, good for 30 s, kept for 1,000 s.
fn claim(key: AnswerKey, request: u8, reserved: u128, second: i64) -> NewClaim {
    NewClaim {
        key,
        fingerprint: Fingerprint([request; 32]),
        older_fingerprints: Vec::new(),
        reserved: Uuid::from_u128(reserved),
        now: at(second),
        until: at(second) + SignedDuration::from_secs(30),
        expires_at: at(second) + SignedDuration::from_secs(1_000),
    }
}

fn new(reserved: u128, attempt: u32) -> Begun {
    Begun::New { reserved: Uuid::from_u128(reserved), attempt }
}

async fn answers(store: &dyn AnswerStore) {
    let ours = key("ada", "k1");
    assert_eq!(store.begin(&claim(ours.clone(), 1, 10, 0)).await.unwrap(), new(10, 1));
    let again = store.begin(&claim(ours.clone(), 1, 11, 1)).await.unwrap();
    assert_eq!(again, Begun::InProgress);
    let other = store.begin(&claim(ours.clone(), 2, 12, 1)).await.unwrap();
    assert_eq!(other, Begun::Mismatch, "told before the first is done");
    store.finish(&ours, 201, b"\x00sealed\xff").await.unwrap();
    store.finish(&ours, 500, b"late").await.unwrap();
    store.abandon(&ours, 1).await.unwrap();
    let replay = Begun::Replay { status: 201, body: b"\x00sealed\xff".to_vec() };
    for second in [2, 40, 999] {
        let found = store.begin(&claim(ours.clone(), 1, 13, second)).await.unwrap();
        assert_eq!(found, replay, "the first answer, at {second} s");
    }
    let other = store.begin(&claim(ours.clone(), 2, 14, 40)).await.unwrap();
    assert_eq!(other, Begun::Mismatch);
    let older_fingerprints = vec![Fingerprint([9; 32]), Fingerprint([1; 32])];
    let rekeyed = NewClaim { older_fingerprints, ..claim(ours, 3, 14, 40) };
    assert_eq!(store.begin(&rekeyed).await.unwrap(), replay, "known by an older fingerprint");
    let elsewhere = store.begin(&claim(key("grace", "k1"), 2, 15, 3)).await.unwrap();
    assert_eq!(elsewhere, new(15, 1), "another's key of the same name");
    store.finish(&key("grace", "k1"), 204, b"").await.unwrap();
    let empty = store.begin(&claim(key("grace", "k1"), 2, 15, 3)).await.unwrap();
    assert_eq!(empty, Begun::Replay { status: 204, body: Vec::new() });
}

async fn abandoned(store: &dyn AnswerStore) {
    let ours = key("ada", "abandoned");
    assert_eq!(store.begin(&claim(ours.clone(), 1, 20, 0)).await.unwrap(), new(20, 1));
    store.abandon(&ours, 7).await.unwrap();
    let running = store.begin(&claim(ours.clone(), 1, 21, 1)).await.unwrap();
    assert_eq!(running, Begun::InProgress, "only its holder gives a claim up");
    store.abandon(&ours, 1).await.unwrap();
    let retried = store.begin(&claim(ours.clone(), 1, 22, 2)).await.unwrap();
    assert_eq!(retried, new(20, 2), "the same request keeps its id");
    store.abandon(&ours, 2).await.unwrap();
    let corrected = store.begin(&claim(ours.clone(), 3, 23, 3)).await.unwrap();
    assert_eq!(corrected, new(23, 3), "a corrected request gets its own");
    assert_eq!(store.begin(&claim(ours, 1, 24, 4)).await.unwrap(), Begun::Mismatch);
}

async fn left_by_a_crash(store: &dyn AnswerStore) {
    let ours = key("ada", "crashed");
    assert_eq!(store.begin(&claim(ours.clone(), 1, 30, 0)).await.unwrap(), new(30, 1));
    let before = store.begin(&claim(ours.clone(), 1, 31, 29)).await.unwrap();
    assert_eq!(before, Begun::InProgress);
    let other = store.begin(&claim(ours.clone(), 2, 32, 31)).await.unwrap();
    assert_eq!(other, Begun::Mismatch, "perhaps it was done: nobody else gets the key");
    let taken = store.begin(&claim(ours.clone(), 1, 33, 31)).await.unwrap();
    assert_eq!(taken, new(30, 2), "the id that was perhaps used");
    let rival = store.begin(&claim(ours.clone(), 1, 34, 32)).await.unwrap();
    assert_eq!(rival, Begun::InProgress, "one successor at a time");
    store.abandon(&ours, 1).await.unwrap();
    let rival = store.begin(&claim(ours.clone(), 1, 35, 33)).await.unwrap();
    assert_eq!(rival, Begun::InProgress, "the dead one came back and has no say");
}

const RACES: u64 = 20;

async fn race(store: &dyn AnswerStore) {
    for round in 0..RACES {
        let contested = key("ada", &format!("race {round}"));
        let claims: Vec<_> =
            (0..16).map(|rival| claim(contested.clone(), 1, 100 + rival, 0)).collect();
        let begun = futures::future::join_all(claims.iter().map(|claim| store.begin(claim))).await;
        let begun: Vec<_> = begun.into_iter().map(Result::unwrap).collect();
        let winners = begun.iter().filter(|begun| matches!(begun, Begun::New { .. })).count();
        assert_eq!(winners, 1, "{begun:?}");
        assert_eq!(begun.iter().filter(|begun| **begun == Begun::InProgress).count(), 15);
    }
}

async fn expiry_and_purge(store: &dyn AnswerStore) {
    let ours = key("ada", "old");
    store.begin(&claim(ours.clone(), 1, 40, 0)).await.unwrap();
    store.finish(&ours, 201, b"old").await.unwrap();
    let renewed = store.begin(&claim(ours.clone(), 2, 41, 1_000)).await.unwrap();
    assert_eq!(renewed, new(41, 2), "a key is free again after its time");

    // Everything before this subject was claimed at 31 s at the latest.
    let past = at(1_500);
    let mut purged = 0;
    loop {
        let some = store.purge(past, 2).await.unwrap();
        assert!(some <= 2, "no more than asked");
        purged += some;
        if some == 0 {
            break;
        }
    }
    assert_eq!(purged, 4 + RACES);
    let kept = store.begin(&claim(ours, 2, 42, 1_001)).await.unwrap();
    assert_eq!(kept, Begun::InProgress, "what is not over stays");
}
