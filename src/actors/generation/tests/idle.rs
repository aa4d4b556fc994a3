use super::*;

#[tokio::test(start_paused = true)]
async fn an_unused_session_gives_up_its_lease_soon_and_itself_later() {
    let world = World::new();
    let a = world.replica_with("a", |config| config.idle_timeout = Duration::from_secs(60)).await;
    let id = world.told(&a).await;
    assert_eq!((a.handle.held_leases(), a.handle.live_sessions()), (1, 1));
    pause(7_000).await;
    assert_eq!((a.handle.held_leases(), a.handle.live_sessions()), (0, 1));
    pause(60_000).await;
    assert_eq!(a.handle.live_sessions(), 0);
    let turn = a.command(id, world.say(1)).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn commands_are_served_at_every_moment_of_a_session_going_to_sleep() {
    let world = World::new();
    let idle = Duration::from_secs(7);
    let a = world.replica_with("a", |config| config.idle_timeout = idle).await;
    for wait in (4_000..8_400).step_by(200) {
        let id = world.told(&a).await;
        pause(wait).await;
        let since = tokio::time::Instant::now();
        let turn = a.command(id, world.say(1)).await.unwrap();
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events));
        assert!(since.elapsed() < Duration::from_secs(4), "{wait}: {:?}", since.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_ended_while_a_command_is_on_its_way_to_it() {
    let world = World::new();
    let a = world.replica_with("a", |config| config.idle_timeout = Duration::from_secs(7)).await;
    let id = world.told(&a).await;
    let session = a.actors::<session::SessionMsg>()[0].get_id();
    let shard = a.actors::<ShardMsg>().into_iter().find(|cell| !cell.get_children().is_empty());
    let shard = shard.unwrap();
    pause(1_000).await;
    // The session's word that it is unused crosses a command.
    let (turn, ()) = tokio::join!(a.command(id, world.say(1)), async {
        until("its turn runs", || !a.actors::<turn::Run>().is_empty()).await;
        let unused = ShardMsg::Unused { scenario: id, actor: session, heard: 1 };
        shard.send_message(unused).unwrap();
    });
    let since = tokio::time::Instant::now();
    assert!(is_done(&world.end_of(id, turn.unwrap()).await));
    assert!(since.elapsed() < Duration::from_secs(4), "the turn was interrupted");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_up_meanwhile_is_not_lost() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    let shard = a.actors::<ShardMsg>().into_iter().find(|cell| !cell.get_children().is_empty());
    let old = ShardMsg::LeaseLost(id, crate::storage::log::Fence(0));
    shard.unwrap().send_message(old).unwrap();
    pause(500).await;
    assert_eq!(a.handle.running_turns(), 1);
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_a_thousand_sessions() {
    let world = World::new();
    let a = world.replica_with("a", |config| config.max_turns = 2_000).await;
    let mut begun = Vec::new();
    for _ in 0..1_000 {
        begun.push(world.begin(&a).await);
    }
    // Stops of what nobody runs start sessions too.
    for _ in 0..50 {
        let id = world.told_nothing(&a).await;
        assert_eq!(a.stop(id, world.turn()).await.unwrap_err().code, Code::TurnNotFound);
    }
    assert_eq!(a.handle.live_sessions(), 1_050);
    until("all turns are over", || a.handle.running_turns() == 0).await;
    for (id, turn) in begun.iter().step_by(50) {
        assert!(is_done(&world.turn_events(*id, *turn).await));
    }
    pause(300_000).await;
    let left = (a.handle.live_sessions(), a.handle.held_leases(), a.handle.running_turns());
    assert_eq!(left, (0, 0, 0));
    assert_eq!(a.actors::<session::SessionMsg>().len(), 0);
    for (id, _) in begun {
        let tail = a.handle.deps.hub.tail(id);
        assert_eq!((Arc::strong_count(&tail), tail.position()), (1, None), "its tail is gone");
    }
}

impl World {
    /// A scenario without a turn.
    async fn told_nothing(&self, a: &Replica) -> ScenarioId {
        let scenario = self.scenario();
        let id = scenario.id;
        a.handle.deps.history.create(scenario).await.unwrap();
        id
    }
}
