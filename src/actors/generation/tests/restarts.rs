use super::script::{PROSE, Plan};
use super::*;
use crate::actors::status::Liveness;

#[tokio::test(start_paused = true)]
async fn a_session_that_dies_comes_back_and_its_turn_goes_on() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    for session in a.actors::<session::SessionMsg>() {
        session.kill();
    }
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
    assert_eq!(a.handle.live_sessions(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_dies_takes_no_other_shards_turns_along_and_its_own_go_on_at_once() {
    let world = World::new();
    let a = world.replica("a").await;
    let mut turns = Vec::new();
    for _ in 0..8 {
        turns.push(world.begin(&a).await);
    }
    pause(450).await;
    let shards = a.actors::<ShardMsg>();
    assert_eq!(shards.len(), 2);
    let untouched = shards[1].get_children().len();
    assert!((1..8).contains(&untouched), "both shards have sessions");
    shards[0].kill();
    pause(200).await;
    assert_eq!(a.handle.running_turns(), 8, "no lease has run out yet: its holder claims it again");
    let since = tokio::time::Instant::now();
    for (id, turn) in turns {
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).text, PROSE);
    }
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    world.told(&a).await;
}

#[tokio::test(start_paused = true)]
async fn live_turns_stream_on_while_the_generation_service_fails_again_and_again() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    world.script.always(Some(Plan::PanicOpen));
    // Each kills a worker; many fail the pool, many pools the service.
    let mut fell = false;
    for _ in 0..200 {
        let begun = a.handle.create(world.scenario(), world.turn());
        drop(timeout(Duration::from_millis(5), begun).await);
        fell |= a.status.liveness() != Liveness::Up;
    }
    assert!(fell, "the service was never restarted");
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE, "the live turn saw nothing of it");
    world.script.always(None);
    until("the service is up again", || a.status.liveness() == Liveness::Up).await;
    world.told(&a).await;
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_leave_the_service_down_and_the_process_alive() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    for _ in 0..8 {
        // The service's supervisor: over two providers and the budget.
        let services = a.root.get_children();
        let service = services.iter().find(|cell| {
            let pools = cell.get_children().len();
            cell.is_message_type_of::<crate::actors::supervisor::SupervisorMsg>() == Some(true)
                && pools == 3
        });
        if let Some(service) = service {
            service.kill();
        }
        pause(700).await;
    }
    assert_eq!(a.status.liveness(), Liveness::Down);
    let refused = a.handle.create(world.scenario(), world.turn()).await.unwrap_err();
    assert_eq!(refused.code, Code::ServiceUnavailable);
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events), "the live turn went on: {events:?}");
    until("the service is revived", || a.status.liveness() == Liveness::Up).await;
    world.told(&a).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_needs_a_provider_waits_for_the_service_to_come_back() {
    let world = World::new();
    let a = world.replica("a").await;
    // It breaks off after fifteen seconds, when the service has just gone down.
    world.script.next([Plan::Stall(3)]);
    let (id, turn) = world.begin(&a).await;
    for _ in 0..8 {
        let supervisors = a.actors::<crate::actors::supervisor::SupervisorMsg>();
        let service = supervisors
            .iter()
            .find(|cell| cell.get_id() != a.root.get_id() && cell.get_children().len() == 3);
        service.into_iter().for_each(ActorCell::kill);
        pause(700).await;
    }
    assert_eq!(a.status.liveness(), Liveness::Down);
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!(world.scene_of(id, &events).authors.len(), 2);
}
