//! What every [`LogStore`] must do, whatever keeps it. Scenarios are new in each part, so a store may be shared.

use std::sync::Arc;

use bytes::Bytes;
use whatif::domain::ids::ScenarioId;
use whatif::storage::log::{Batch, Claim, Extent, Fence, LogStore, News, Origin};

use super::*;

/// What every [`LogStore`] must do.
pub async fn contract(store: Arc<dyn LogStore>, advance: Advance) {
    leases_are_exclusive_and_run_out(&*store, advance).await;
    old_fences_are_powerless(&*store, advance).await;
    orphans_are_open_turns_without_an_owner(&*store, advance).await;
    timeless(&store).await;
}

/// The same for a store whose time cannot be moved: what has to wait for it waits at the same time.
pub async fn contract_in_real_time(store: Arc<dyn LogStore>, advance: Advance) {
    tokio::join!(
        leases_are_exclusive_and_run_out(&*store, advance),
        old_fences_are_powerless(&*store, advance),
        orphans_are_open_turns_without_an_owner(&*store, advance),
        timeless(&store),
    );
}

async fn timeless(store: &Arc<dyn LogStore>) {
    appends_continue_the_head(&**store).await;
    checkpoints_belong_to_their_events(&**store).await;
    reads_are_bounded_and_gapless(&**store).await;
    trimmed_events_are_gone(&**store).await;
    lost_logs_never_look_whole(&**store).await;
    deleted_logs_begin_anew(&**store).await;
    one_of_many_claimants_wins(store).await;
    readers_see_gapless_prefixes(store).await;
}

async fn leases_are_exclusive_and_run_out(store: &dyn LogStore, advance: Advance) {
    let s = scenario();
    assert!(store.read(s, 0, 1).await.unwrap().is_none(), "no log before the first claim");
    let first = granted(store, s, "a").await;
    let Extent { epoch, .. } = first.extent.clone();
    assert_eq!(first.extent, Extent { epoch: epoch.clone(), first: 1, head: 0 });
    assert!(!epoch.is_empty() && first.checkpoint.is_none());

    match store.claim(s, "b", TTL, Origin::New).await.unwrap() {
        Claim::Held { holder, expires_in } => {
            assert_eq!(holder, "a");
            assert!(expires_in <= TTL && expires_in > TTL / 2, "{expires_in:?}");
        }
        other => panic!("{other:?}"),
    }
    let again = granted(store, s, "a").await;
    assert!(again.fence > first.fence, "the holder itself gets a new fence");

    // Renewed in time it is held on, past its first end.
    advance(TTL * 3 / 5).await;
    let unknown = scenario();
    let lost = store
        .renew(&[(s, again.fence), (s, first.fence), (unknown, again.fence)], TTL)
        .await
        .unwrap();
    assert_eq!(sorted(lost), sorted([s, unknown]));
    advance(TTL * 3 / 5).await;
    assert!(matches!(store.claim(s, "b", TTL, Origin::New).await, Ok(Claim::Held { .. })));

    // Not renewed it runs out.
    advance(TTL * 2 / 5 + SHORT).await;
    let taken = granted(store, s, "b").await;
    assert!(taken.fence > again.fence);
    assert_eq!(taken.extent.epoch, epoch, "the log is the same");

    // Given up it is free at once.
    store.release(s, taken.fence).await.unwrap();
    assert!(granted(store, s, "c").await.fence > taken.fence);

    // Run out but claimed by nobody, it can still be renewed.
    let late = granted(store, s, "c").await;
    advance(TTL + SHORT).await;
    assert!(store.renew(&[(s, late.fence)], TTL).await.unwrap().is_empty());
    assert!(matches!(store.claim(s, "d", TTL, Origin::New).await, Ok(Claim::Held { .. })));
}

fn sorted(scenarios: impl Into<Vec<ScenarioId>>) -> Vec<ScenarioId> {
    let mut scenarios = scenarios.into();
    scenarios.sort_unstable();
    scenarios
}

async fn old_fences_are_powerless(store: &dyn LogStore, advance: Advance) {
    let s = scenario();
    let old = granted(store, s, "a").await.fence;
    store.append(s, old, batch(s, 1..=3)).await.unwrap();
    advance(TTL + SHORT).await;
    let lease = granted(store, s, "b").await;

    assert_fenced(store.append(s, old, batch(s, 4..=4)).await);
    assert_fenced(store.trim(s, old, 2).await);
    assert_eq!(store.renew(&[(s, old)], TTL).await.unwrap(), [s]);
    store.release(s, old).await.unwrap();
    let held = store.claim(s, "c", TTL, Origin::New).await.unwrap();
    assert!(matches!(held, Claim::Held { .. }), "an old fence gave the lease up");
    assert_fenced(store.append(s, Fence(lease.fence.0 + 1), batch(s, 4..=4)).await);
    assert_fenced(store.append(scenario(), lease.fence, batch(s, 1..=1)).await);
    assert_eq!(page(store, s, 0).await.frames, frames(s, 1..=3));
    store.append(s, lease.fence, batch(s, 4..=4)).await.unwrap();

    // Who gave up its lease is no owner either, even before the next one comes.
    store.release(s, lease.fence).await.unwrap();
    assert_fenced(store.append(s, lease.fence, batch(s, 5..=5)).await);
    assert_fenced(store.trim(s, lease.fence, 1).await);
    assert_eq!(store.renew(&[(s, lease.fence)], TTL).await.unwrap(), [s]);
    assert_eq!(page(store, s, 0).await.frames, frames(s, 1..=4));
}

async fn appends_continue_the_head(store: &dyn LogStore) {
    let s = scenario();
    let fence = granted(store, s, "a").await.fence;
    for wrong in [0, 2, u64::MAX] {
        let batch = Batch { first_seq: wrong, ..batch(s, 1..=2) };
        assert_out_of_sequence(store.append(s, fence, batch).await, 0);
    }
    store.append(s, fence, batch(s, 1..=2)).await.unwrap();
    let repeated =
        Batch { checkpoint: Some("no".into()), open_turn: Some(true), ..batch(s, 2..=4) };
    assert_out_of_sequence(store.append(s, fence, repeated).await, 2);
    assert_out_of_sequence(store.append(s, fence, batch(s, 4..=4)).await, 2);

    assert_eq!(page(store, s, 0).await.frames, frames(s, 1..=2));
    let lease = granted(store, s, "a").await;
    assert_eq!((lease.extent.head, lease.checkpoint), (2, None));
    assert!(!store.list_orphans(usize::MAX).await.unwrap().contains(&s));
    store.append(s, lease.fence, batch(s, 3..=3)).await.unwrap();
}

async fn checkpoints_belong_to_their_events(store: &dyn LogStore) {
    let s = scenario();
    let checkpoint = async || {
        let lease = granted(store, s, "a").await;
        (lease.fence, lease.extent.head, lease.checkpoint)
    };
    let (fence, ..) = checkpoint().await;
    let one = Bytes::from_static(b"\x00one\xff");
    let with = Batch { checkpoint: Some(one.clone()), ..batch(s, 1..=1) };
    store.append(s, fence, with).await.unwrap();
    store.append(s, fence, batch(s, 2..=2)).await.unwrap();
    let (fence, head, kept) = checkpoint().await;
    assert_eq!((head, kept), (2, Some(one)), "left by an append without one");

    // Without events.
    let alone = Batch { first_seq: 3, checkpoint: Some("two".into()), ..Batch::default() };
    store.append(s, fence, alone).await.unwrap();
    let (fence, head, replaced) = checkpoint().await;
    assert_eq!((head, replaced), (2, Some("two".into())));
    let empty = Batch { first_seq: 3, checkpoint: Some(Bytes::new()), ..Batch::default() };
    store.append(s, fence, empty).await.unwrap();
    assert_eq!(checkpoint().await.2, Some(Bytes::new()), "an empty one is one");
}

async fn orphans_are_open_turns_without_an_owner(store: &dyn LogStore, advance: Advance) {
    let (open, closed) = (scenario(), scenario());
    let orphans = async || {
        let found = store.list_orphans(usize::MAX).await.unwrap();
        (found.contains(&open), found.contains(&closed))
    };
    for s in [open, closed] {
        let fence = granted(store, s, "a").await.fence;
        let started = Batch { open_turn: Some(true), ..batch(s, 1..=1) };
        store.append(s, fence, started).await.unwrap();
        store.append(s, fence, batch(s, 2..=2)).await.unwrap();
        if s == closed {
            let done = Batch { open_turn: Some(false), ..batch(s, 3..=3) };
            store.append(s, fence, done).await.unwrap();
        }
    }
    assert_eq!(orphans().await, (false, false), "both are owned");
    advance(TTL + SHORT).await;
    assert_eq!(orphans().await, (true, false));
    assert_eq!(store.list_orphans(0).await.unwrap(), []);
    assert_eq!(store.list_orphans(1).await.unwrap().len(), 1);

    let fence = granted(store, open, "b").await.fence;
    assert_eq!(orphans().await, (false, false), "someone took it over");
    store.release(open, fence).await.unwrap();
    assert_eq!(orphans().await, (true, false), "and gave it up");
    let fence = granted(store, open, "c").await.fence;
    let done = Batch { first_seq: 3, open_turn: Some(false), ..Batch::default() };
    store.append(open, fence, done).await.unwrap();
    store.release(open, fence).await.unwrap();
    assert_eq!(orphans().await, (false, false), "done");
}

async fn reads_are_bounded_and_gapless(store: &dyn LogStore) {
    const HEAD: u64 = 23;
    let (s, neighbour) = (scenario(), scenario());
    for id in [s, neighbour] {
        let fence = granted(store, id, "a").await.fence;
        for seqs in [1..=1, 2..=9, 10..=HEAD] {
            store.append(id, fence, batch(id, seqs)).await.unwrap();
        }
    }
    let all = frames(s, 1..=HEAD);
    for after in 0..=HEAD + 2 {
        let page = page(store, s, after).await;
        assert_eq!((page.extent.first, page.extent.head), (1, HEAD));
        assert_eq!(page.frames, all[after.min(HEAD) as usize..], "after {after}");
        assert_eq!(page.extent.holds_after(after), after <= HEAD);
    }
    assert!(page(store, s, u64::MAX).await.frames.is_empty());

    // Every bound at every place: at least one, as many as fit, then on from there to the end.
    let size: usize = all.iter().map(|(_, frame)| frame.bytes().len()).sum();
    for max_bytes in [0, 1, 300, 301, 1000, size - 1, size, size + 1] {
        let (mut after, mut seen) = (0, Vec::new());
        while after < HEAD {
            let page = store.read(s, after, max_bytes).await.unwrap().unwrap();
            let bytes: usize = page.frames.iter().map(|(_, frame)| frame.bytes().len()).sum();
            assert!(!page.frames.is_empty());
            assert!(bytes <= max_bytes || page.frames.len() == 1, "{bytes} of {max_bytes}");
            after = page.frames.last().unwrap().0;
            if after < HEAD {
                let next = all[after as usize].1.bytes().len();
                assert!(bytes + next > max_bytes, "stopped early");
            }
            seen.extend(page.frames);
        }
        assert_eq!(seen, all);
    }
}

async fn trimmed_events_are_gone(store: &dyn LogStore) {
    let s = scenario();
    let fence = granted(store, s, "a").await.fence;
    store.append(s, fence, batch(s, 1..=6)).await.unwrap();
    assert_out_of_sequence(store.trim(s, fence, 7).await, 6);
    store.trim(s, fence, 0).await.unwrap();
    assert_eq!(page(store, s, 0).await.frames, frames(s, 1..=6));

    for (up_to, first) in [(4, 5), (2, 5), (6, 7)] {
        store.trim(s, fence, up_to).await.unwrap();
        for after in 0..=6 {
            let page = page(store, s, after).await;
            assert_eq!((page.extent.first, page.extent.head), (first, 6));
            assert_eq!(page.frames, frames(s, first.max(after + 1)..=6), "after {after}");
            assert_eq!(page.extent.holds_after(after), after + 1 >= first);
        }
    }
    // An emptied log goes on where it was.
    assert_out_of_sequence(store.append(s, fence, batch(s, 1..=1)).await, 6);
    let lease = granted(store, s, "a").await;
    assert_eq!((lease.extent.first, lease.extent.head), (7, 6));
    store.append(s, lease.fence, batch(s, 7..=8)).await.unwrap();
    assert_eq!(page(store, s, 6).await.frames, frames(s, 7..=8));
}

async fn lost_logs_never_look_whole(store: &dyn LogStore) {
    let s = scenario();
    let lease = granted_from(store, s, "a", Origin::Carried).await;
    assert_eq!((lease.extent.first, lease.extent.head), (2, 1));
    let empty = page(store, s, 0).await;
    assert!(empty.frames.is_empty() && !empty.extent.holds_after(0));
    assert_out_of_sequence(store.append(s, lease.fence, batch(s, 1..=1)).await, 1);
    store.append(s, lease.fence, batch(s, 2..=3)).await.unwrap();
    let page = page(store, s, 0).await;
    assert_eq!(page.frames, frames(s, 2..=3));
    assert!(!page.extent.holds_after(0) && page.extent.holds_after(1));

    // A log that is there is neither lost nor new, whatever the claimant thinks.
    let again = granted_from(store, s, "a", Origin::New).await.extent;
    assert_eq!(again, Extent { epoch: lease.extent.epoch, first: 2, head: 3 });
}

async fn deleted_logs_begin_anew(store: &dyn LogStore) {
    let s = scenario();
    let old = granted(store, s, "a").await;
    let open = Batch { open_turn: Some(true), checkpoint: Some("c".into()), ..batch(s, 1..=3) };
    store.append(s, old.fence, open).await.unwrap();
    store.delete(s).await.unwrap();
    store.delete(s).await.unwrap();
    assert!(store.read(s, 0, 1).await.unwrap().is_none());
    assert!(!store.list_orphans(usize::MAX).await.unwrap().contains(&s));
    assert_fenced(store.append(s, old.fence, batch(s, 4..=4)).await);
    assert_eq!(store.renew(&[(s, old.fence)], TTL).await.unwrap(), [s]);

    let new = granted(store, s, "b").await;
    assert!(new.fence > old.fence, "never falls");
    assert_ne!(new.extent.epoch, old.extent.epoch);
    assert_eq!((new.extent.first, new.extent.head, new.checkpoint), (1, 0, None));
    assert_fenced(store.append(s, old.fence, batch(s, 1..=1)).await);
    store.append(s, new.fence, batch(s, 1..=1)).await.unwrap();
    assert_eq!(page(store, s, 0).await.frames, frames(s, 1..=1));
}

/// Two handles to the same logs: what one changes, the other's followers hear of.
pub async fn followers_hear_of_changes(ours: &dyn LogStore, theirs: &dyn LogStore) {
    let (s, other) = (scenario(), scenario());
    let fence = granted(theirs, s, "a").await.fence;
    let elsewhere = granted(theirs, other, "a").await.fence;
    let news = ours.follow(s).expect("news of what others append");
    let second = ours.follow(s).expect("news of what others append");
    let mut seen = 0;
    for round in 1..=20 {
        theirs.append(other, elsewhere, batch(other, round..=round)).await.unwrap();
        theirs.append(s, fence, batch(s, round..=round)).await.unwrap();
        while seen < round {
            heard(&news).await;
            seen = page(ours, s, 0).await.extent.head;
        }
    }
    heard(&second).await;
    drop(second);
    theirs.append(s, fence, batch(s, 21..=21)).await.unwrap();
    while seen < 21 {
        heard(&news).await;
        seen = page(ours, s, 0).await.extent.head;
    }
}

/// A lease that is given up with its turn open is told of; one without is nobody's business.
pub async fn handed_over_turns_are_told(ours: &dyn LogStore, theirs: &dyn LogStore) {
    let news = ours.follow_orphans().expect("news of what others hand over");
    for _ in 0..20 {
        let s = scenario();
        let fence = granted(theirs, s, "a").await.fence;
        let opening = Batch { open_turn: Some(true), ..batch(s, 1..=1) };
        theirs.append(s, fence, opening).await.unwrap();
        theirs.release(s, fence).await.unwrap();
        while !ours.list_orphans(1_000).await.unwrap().contains(&s) {
            heard(&news).await;
        }
        heard(&news).await;
        let fence = granted(theirs, s, "b").await.fence;
        let closing = Batch { open_turn: Some(false), ..batch(s, 2..=2) };
        theirs.append(s, fence, closing).await.unwrap();
        theirs.release(s, fence).await.unwrap();
    }
}

/// Waits for a bell, for no longer than a store may keep it to itself.
pub async fn heard(news: &News) {
    tokio::time::timeout(Duration::from_secs(5), news.wait()).await.expect("news");
}

pub async fn one_of_many_claimants_wins(store: &Arc<dyn LogStore>) {
    for _ in 0..20 {
        let s = scenario();
        let claims = (0..8).map(|n| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                match store.claim(s, &format!("h{n}"), TTL, Origin::New).await.unwrap() {
                    Claim::Granted(lease) => {
                        store.append(s, lease.fence, batch(s, 1..=1)).await.is_ok()
                    }
                    Claim::Held { .. } | Claim::Unsettled { .. } => false,
                }
            })
        });
        let won = futures::future::join_all(claims).await;
        assert_eq!(won.into_iter().filter(|won| *won.as_ref().unwrap()).count(), 1);
        assert_eq!(page(&**store, s, 0).await.extent.head, 1);
    }
}

pub async fn readers_see_gapless_prefixes(store: &Arc<dyn LogStore>) {
    const LOGS: usize = 64;
    const EVENTS: u64 = 40;
    let logs: Vec<_> = (0..LOGS).map(|_| scenario()).collect();
    let writers = logs.iter().map(|&s| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let fence = granted(&*store, s, "w").await.fence;
            for first in (1..=EVENTS).step_by(2) {
                store.append(s, fence, batch(s, first..=first + 1)).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let readers = (0..4).map(|n| {
        let (store, logs) = (Arc::clone(store), logs.clone());
        let bound = if n % 2 == 0 { usize::MAX } else { 700 };
        tokio::spawn(async move {
            let mut behind: Vec<(ScenarioId, u64)> =
                logs.into_iter().skip(n).step_by(4).map(|s| (s, 0)).collect();
            while !behind.is_empty() {
                for (s, after) in &mut behind {
                    if let Some(page) = store.read(*s, *after, bound).await.unwrap() {
                        let expected = frames(*s, *after + 1..=*after + page.frames.len() as u64);
                        assert_eq!(page.frames, expected);
                        *after += page.frames.len() as u64;
                        let head = page.extent.head;
                        let whole = if n % 2 == 0 { *after == head } else { *after <= head };
                        assert!(whole && head.is_multiple_of(2), "torn: {after} of {head}");
                    }
                }
                behind.retain(|(_, after)| *after < EVENTS);
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for task in writers.into_iter().chain(readers) {
        task.await.unwrap();
    }
}
