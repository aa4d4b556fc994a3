use std::collections::HashSet;

use super::script::{Kind, PROSE, Plan};
use super::*;

/// How many events of its turn are logged when the owner goes.
fn points() -> impl Iterator<Item = usize> {
    1..16
}

async fn goes_at(world: &World, id: ScenarioId, turn: TurnId, count: usize) -> Vec<Event> {
    world.when(id, turn, |events| events.len() >= count || events.last().is_some_and(is_last)).await
}

#[tokio::test(start_paused = true)]
async fn a_drained_turn_goes_on_elsewhere_at_every_event() {
    for count in points() {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let before = goes_at(&world, id, turn, count).await;
        let since = tokio::time::Instant::now();
        a.handle.hand_over().await;
        assert!(since.elapsed() < Duration::from_millis(100));
        assert_eq!((a.handle.held_leases(), a.handle.running_turns()), (0, 0));
        let events = world.end_of(id, turn).await;
        assert_eq!(events[..before.len()], before, "an event changed");
        assert!(is_done(&events));
        assert_eq!(world.scene_of(id, &events).text, PROSE, "drained after {count}");
        assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
        // The next command finds its session there, though the first replica still runs.
        let turn = b.command(id, world.say(1)).await.unwrap();
        assert!(is_done(&world.end_of(id, turn).await));
    }
}

#[tokio::test(start_paused = true)]
async fn who_drains_takes_nothing_up_again() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    a.handle.hand_over().await;
    let before = world.turn_events(id, turn).await;
    pause(20_000).await;
    assert_eq!(world.turn_events(id, turn).await, before);
    assert_eq!(a.handle.held_leases(), 0);
    let refused = a.command(id, world.say(1)).await.unwrap_err();
    assert_eq!(refused.code, Code::ServiceUnavailable);
    let b = world.replica("b").await;
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn a_turn_may_be_handed_over_more_often_than_it_may_fail() {
    let world = World::new();
    let mut owner = world.replica("r0").await;
    let (id, turn) = world.begin(&owner).await;
    for round in 1..9 {
        pause(90).await;
        let next = world.replica(&format!("r{round}")).await;
        owner.handle.hand_over().await;
        let before = world.turn_events(id, turn).await.len();
        world.when(id, turn, |events| events.len() > before).await;
        owner = next;
    }
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!(world.scene_of(id, &events).text, PROSE);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_owners_turn_goes_on_when_its_lease_has_run_out() {
    for count in points() {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let before = goes_at(&world, id, turn, count).await;
        a.crash();
        let since = tokio::time::Instant::now();
        let events = world.end_of(id, turn).await;
        assert_eq!(events[..before.len()], before, "an event changed");
        assert!(is_done(&events));
        assert_eq!(world.scene_of(id, &events).text, PROSE, "crashed after {count}");
        assert!(since.elapsed() < Duration::from_secs(12), "{:?}", since.elapsed());
        let turn = b.command(id, world.say(1)).await.unwrap();
        assert!(is_done(&world.end_of(id, turn).await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_goes_on_with_what_an_earlier_one_left() {
    let world = World::new();
    let a = world.replica("a").await;
    let mut left = Vec::new();
    for _ in 0..20 {
        left.push(world.begin(&a).await);
    }
    pause(450).await;
    a.crash();
    pause(6_000).await;
    // It has fewer places than there are turns.
    let b = world.replica_with("b", |config| config.max_turns = 3).await;
    for (id, turn) in left {
        assert!(is_done(&world.end_of(id, turn).await));
    }
    until("all places are free", || b.handle.running_turns() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lost_its_lease_adds_nothing() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    // Another replica claims what it takes for abandoned.
    let claimed =
        world.log.inner.claim(id, "a", Duration::from_secs(3), crate::storage::log::Origin::New);
    claimed.await.unwrap();
    let before = world.turn_events(id, turn).await;
    pause(60).await;
    assert_eq!(world.turn_events(id, turn).await, before);
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
}

#[tokio::test(start_paused = true)]
async fn a_command_at_another_replica_waits_only_until_the_first_lets_go() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    let since = tokio::time::Instant::now();
    let turn = b.command(id, world.say(1)).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
    assert!(is_done(&world.end_of(id, turn).await));
    // What the second told is where the first goes on.
    let turn = a.command(id, world.say(2)).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn many_sessions_are_handed_over_without_one_lost() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let mut turns = HashSet::new();
    for _ in 0..30 {
        turns.insert(world.begin(&a).await);
        pause(37).await;
    }
    a.handle.hand_over().await;
    assert_eq!((a.handle.live_sessions(), a.handle.held_leases()), (0, 0));
    for (id, turn) in turns {
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).text, PROSE);
    }
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_taken_up_does_not_go_back_to_the_provider_that_it_left() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    world.script.next([Plan::Fail(3, Kind::Network)]);
    let (id, turn) = world.begin(&a).await;
    let failed_over = |events: &[Event]| events.iter().any(|e| e.kind() == "turn.failover");
    world.when(id, turn, failed_over).await;
    a.handle.hand_over().await;
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events));
    assert_eq!(events.iter().filter(|event| event.kind() == "turn.failover").count(), 1);
    assert_eq!(world.script.calls(), 1);
    drop(b);
}
