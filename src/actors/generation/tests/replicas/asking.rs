use super::super::script::PROSE;
use super::super::stores::Fault;
use super::*;
use crate::domain::scenario::Finish;

fn keyed(world: &World, scene: u32, key: &str) -> Request {
    Request { key: Some(key.to_owned()), ..world.say(scene) }
}

#[tokio::test(start_paused = true)]
async fn a_command_reaches_its_session_on_another_replica_at_once() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    let since = tokio::time::Instant::now();
    let turn = b.command(id, world.say(1)).await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(50), "{:?}", since.elapsed());
    assert_eq!((a.handle.running_turns(), b.handle.running_turns()), (1, 0));
    assert_eq!(b.handle.live_sessions(), 0, "nothing is left where it only passed");
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn what_a_session_answers_arrives_as_it_was_said() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    let choose =
        |choice: &str| world.request(Command::Choose { scene: SceneId(1), choice: choice.into() });
    let (here, there) = (
        a.command(id, choose("c9")).await.unwrap_err(),
        b.command(id, choose("c9")).await.unwrap_err(),
    );
    assert_eq!(format!("{here:?}"), format!("{there:?}"));
    assert_eq!(there.details[0].field, "choice");
    let turn = b.command(id, keyed(&world, 1, "k")).await.unwrap();
    assert_eq!(b.command(id, world.say(1)).await.unwrap_err().code, Code::TurnInProgress);
    let other = Request { key: Some("k".into()), ..choose("c1") };
    assert_eq!(b.command(id, other).await.unwrap_err().code, Code::IdempotencyConflict);
    world.end_of(id, turn).await;
    assert_eq!(b.command(id, world.say(1)).await.unwrap_err().code, Code::StaleScene);
    assert_eq!(b.stop(id, turn).await.unwrap_err().code, Code::TurnNotFound);
    let stranger = UserId(Uuid::from_u128(99));
    let refused = b.handle.command(stranger, id, world.say(2)).await.unwrap_err();
    assert_eq!(
        refused.code,
        Code::ScenarioNotFound,
        "whoever the client talks to looks at its rights"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_a_turn_on_another_replica() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    b.stop(id, turn).await.unwrap();
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).finish, Finish::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_scenario_ends_on_the_replica_that_tells_it() {
    for bus in [Fault::None, Fault::Down] {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, _) = world.begin(&a).await;
        pause(450).await;
        world.bus.fault.set(bus);
        crate::storage::scenario::ScenarioStore::delete_scenario(&*world.scenes, id, NOW)
            .await
            .unwrap();
        b.handle.forget(id).await.unwrap();
        pause(300).await;
        assert_eq!((a.handle.running_turns(), a.handle.held_leases()), (0, 0));
        pause(10_000).await;
        assert!(world.log.inner.read(id, 0, 9).await.unwrap().is_none());
        assert_eq!(world.script.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_sent_to_every_replica_becomes_one_turn() {
    for lost_of in [0, 3] {
        let world = World::new();
        world.bus.lost_of.store(lost_of, std::sync::atomic::Ordering::SeqCst);
        let replicas =
            [world.replica("a").await, world.replica("b").await, world.replica("c").await];
        let id = world.told(&replicas[0]).await;
        let asks = replicas
            .iter()
            .flat_map(|replica| (0..3).map(|_| replica.command(id, keyed(&world, 1, "k"))));
        let answers = futures::future::join_all(asks).await;
        let turn = *answers[0].as_ref().unwrap();
        assert!(answers.iter().all(|answer| *answer.as_ref().unwrap() == turn), "{answers:?}");
        world.end_of(id, turn).await;
        for replica in &replicas {
            assert_eq!(replica.command(id, keyed(&world, 1, "k")).await.unwrap(), turn);
        }
        assert_eq!((world.scenes.count(id), world.script.calls()), (2, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_loses_every_second_message_delays_commands_only() {
    let world = World::new();
    world.bus.lost_of.store(2, std::sync::atomic::Ordering::SeqCst);
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    for scene in 1..8 {
        let since = tokio::time::Instant::now();
        let turn = b.command(id, world.say(scene)).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        pause(300).await;
        b.stop(id, turn).await.unwrap();
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).finish, Finish::Stopped);
    }
    assert_eq!(world.scenes.count(id), 8);
}

#[tokio::test(start_paused = true)]
async fn without_a_bus_a_command_waits_until_the_owner_lets_go() {
    for fault in [Fault::Down, Fault::Hang] {
        let world = World::new();
        world.bus.fault.set(fault);
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let id = world.told(&a).await;
        let since = tokio::time::Instant::now();
        let turn = b.command(id, world.say(1)).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
        assert_eq!(b.handle.running_turns(), 1);
        assert!(is_done(&world.end_of(id, turn).await));
        // While a turn runs there is nothing to wait for.
        world.script.next([super::super::script::Plan::HangOpen]);
        let turn = b.command(id, world.say(2)).await.unwrap();
        let refused = a.command(id, world.say(2)).await.unwrap_err();
        assert_eq!(refused.code, Code::ServiceUnavailable);
        b.stop(id, turn).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_for_an_owner_that_died_waits_for_its_lease_to_run_out() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    a.crash();
    let since = tokio::time::Instant::now();
    let turn = b.command(id, world.say(1)).await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(5_400), "{:?}", since.elapsed());
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_on_is_never_passed_on_again() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    let ask = Ask::command(keyed(&world, 1, "k"));
    let before = world.bus.sent();
    assert!(b.handle.serve(id, &ask).await.is_none(), "it does not live here");
    assert_eq!(world.bus.sent(), before);
    assert!(matches!(a.handle.serve(id, &ask).await, Some(Ok(Some(_)))));
}

#[tokio::test(start_paused = true)]
async fn a_command_for_an_owner_that_drains_is_done_by_who_was_asked() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    a.handle.refuse_turns();
    let since = tokio::time::Instant::now();
    let (turn, ()) = tokio::join!(b.command(id, world.say(1)), async {
        pause(400).await;
        a.handle.hand_over().await;
    });
    assert!(since.elapsed() < Duration::from_millis(800), "{:?}", since.elapsed());
    assert!(is_done(&world.end_of(id, turn.unwrap()).await));
}
