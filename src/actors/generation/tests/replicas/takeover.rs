use std::collections::HashMap;

use super::super::script::PROSE;
use super::super::stores::Fault;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_turn_goes_on_soon_after_its_dead_owners_lease_and_readers_elsewhere_see_no_seam() {
    for after in (50..1_700).step_by(150) {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let watch = Watch::begin(&b, id).await;
        pause(after).await;
        a.crash();
        let before = world.turn_events(id, turn).await;
        let took = goes_on(&world, id, turn, before.len()).await;
        assert!(took < Duration::from_millis(5_000 + 1_500), "after {after} ms: {took:?}");
        let events = world.end_of(id, turn).await;
        assert_eq!(events[..before.len()], before, "an event changed");
        assert_eq!(world.scene_of(id, &events).text, PROSE);
        watch.sees_everything(&world, id).await;
        assert_eq!(watch.seen().snapshots, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drained_turn_goes_on_at_once() {
    for after in (50..1_000).step_by(110) {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let watches = [Watch::begin(&b, id).await, Watch::begin(&a, id).await];
        pause(after).await;
        a.handle.hand_over().await;
        let before = world.turn_events(id, turn).await;
        let since = tokio::time::Instant::now();
        until("a provider is asked", || world.script.calls() == 2).await;
        assert!(since.elapsed() <= Duration::from_millis(130), "{:?}", since.elapsed());
        // It repeats up to two pieces before there is something new.
        let took = since.elapsed() + goes_on(&world, id, turn, before.len()).await;
        assert!(took <= Duration::from_millis(350), "after {after} ms: {took:?}");
        let events = world.end_of(id, turn).await;
        assert_eq!(events[..before.len()], before, "an event changed");
        assert_eq!(world.scene_of(id, &events).text, PROSE);
        for watch in watches {
            watch.sees_everything(&world, id).await;
            assert_eq!(watch.seen().snapshots, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_paused_cannot_write_after_another_took_over() {
    for after in (80..1_600).step_by(190) {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let watches = [Watch::begin(&a, id).await, Watch::begin(&b, id).await];
        pause(after).await;
        a.line.fault.set(Fault::Hold);
        let before = world.turn_events(id, turn).await.len();
        goes_on(&world, id, turn, before).await;
        a.line.fault.set(Fault::None);
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).text, PROSE);
        until("the first lets go", || a.handle.running_turns() == 0).await;
        for watch in watches {
            watch.sees_everything(&world, id).await;
            assert_eq!(watch.seen().snapshots, 0);
        }
        let turn = a.command(id, world.say(1)).await.unwrap();
        assert!(is_done(&world.end_of(id, turn).await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_replicas_turns_are_spread_over_the_others() {
    let world = World::new();
    let replicas = [world.replica("a").await, world.replica("b").await, world.replica("c").await];
    let mut turns = HashMap::new();
    for _ in 0..60 {
        let (id, turn) = world.begin(&replicas[0]).await;
        turns.insert(id, turn);
    }
    pause(300).await;
    replicas[0].crash();
    until("all are taken up", || {
        replicas[1].handle.running_turns() + replicas[2].handle.running_turns() == 60
    })
    .await;
    for replica in &replicas[1..] {
        assert!(replica.handle.running_turns() > 5, "{}", replica.handle.running_turns());
        assert_eq!(replica.handle.live_sessions(), replica.handle.running_turns());
    }
    for (id, turn) in turns {
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).text, PROSE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_for_half_a_minute_moves_no_turn_and_loses_none() {
    for fault in [Fault::Down, Fault::Hold] {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let mut turns = Vec::new();
        for _ in 0..10 {
            turns.push(world.begin(&a).await);
        }
        let idle = world.begin(&b).await;
        let watch = Watch::begin(&b, turns[0].0).await;
        pause(450).await;
        world.log.fault.set(fault);
        pause(30_000).await;
        world.log.fault.set(Fault::None);
        pause(700).await;
        assert_eq!((a.handle.running_turns(), b.handle.running_turns()), (10, 1));
        for (id, turn) in turns.iter().copied().chain([idle]) {
            let events = world.end_of(id, turn).await;
            assert_eq!(world.scene_of(id, &events).text, PROSE);
        }
        assert_eq!(world.script.calls(), 11, "no provider was asked twice");
        watch.sees_everything(&world, turns[0].0).await;
    }
}
