use super::script::{PROSE, Plan};
use super::stores::Fault;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_for_a_while_delays_a_turn_and_nothing_else() {
    for fault in [Fault::Down, Fault::Hang] {
        let world = World::new();
        let a = world.replica("a").await;
        let (id, turn) = world.begin(&a).await;
        pause(450).await;
        let wake = Arc::new(Wake::default());
        let mut reader = a.handle.attach(OWNER, id, None, 0, &wake).await.unwrap().reader;
        world.log.fault.set(fault);
        let before = world.turn_events(id, turn).await;
        pause(10_000).await;
        let mut shown = Vec::new();
        while reader.take(usize::MAX, &mut shown) == Taken::Frames {}
        assert_eq!(shown.len(), before.len(), "shown before it was logged");
        world.log.fault.set(Fault::None);
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).text, PROSE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_for_long_interrupts_a_turn_which_goes_on_later() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    world.log.fault.set(Fault::Down);
    pause(180_000).await;
    assert_eq!(a.handle.running_turns(), 0, "its place is not kept");
    world.log.fault.set(Fault::None);
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_was_taken_and_reported_as_failed_doubles_nothing() {
    let world = World::new();
    let a = world.replica("a").await;
    world.log.lies.store(9, Ordering::SeqCst);
    let (id, turn) = world.begin(&a).await;
    let events = world.end_of(id, turn).await;
    assert_eq!(world.log.lies.load(Ordering::SeqCst), 0);
    assert_eq!(world.scene_of(id, &events).text, PROSE);
}

#[tokio::test(start_paused = true)]
async fn a_command_while_the_log_is_away_is_refused_and_works_later() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    pause(20_000).await;
    world.log.fault.set(Fault::Down);
    let refused = a.command(id, world.say(1)).await.unwrap_err();
    assert_eq!(refused.code, Code::ServiceUnavailable);
    world.log.fault.set(Fault::None);
    let turn = a.command(id, world.say(1)).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_panics_is_taken_up_where_it_was() {
    for after in [0, 1, 4, 30] {
        let world = World::new();
        let a = world.replica("a").await;
        world.script.next([Plan::Panic(after)]);
        let (id, turn) = world.begin(&a).await;
        let since = tokio::time::Instant::now();
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events));
        assert_eq!(world.scene_of(id, &events).text, PROSE);
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_keeps_panicking_fails_with_its_text_kept() {
    let world = World::new();
    let a = world.replica("a").await;
    world.script.always(Some(Plan::Panic(2)));
    let (id, turn) = world.begin(&a).await;
    let events = world.end_of(id, turn).await;
    assert!(matches!(events.last(), Some(Event::TurnFailed { error, .. }) if error == "internal"));
    let scene = world.scene_of(id, &events);
    assert_eq!(scene.finish, Finish::Failed);
    assert!(!scene.text.is_empty() && PROSE.starts_with(&scene.text));
    assert_eq!(world.script.calls(), 6, "once, and five times taken up");
    world.script.always(None);
    let retry = world.request(Command::Retry { scene: SceneId(1) });
    let turn = a.command(id, retry).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn a_failed_turn_that_is_taken_up_while_it_ends_stays_failed() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    world.script.always(Some(Plan::Panic(2)));
    let (id, turn) = world.begin(&a).await;
    world.scenes.puts.set(Fault::Down);
    world.when(id, turn, |events| events.last().map(Event::kind) == Some("choices.done")).await;
    a.handle.hand_over().await;
    world.scenes.puts.set(Fault::None);
    let events = world.end_of(id, turn).await;
    assert!(matches!(events.last(), Some(Event::TurnFailed { .. })), "{events:?}");
    assert_eq!(world.scene_of(id, &events).finish, Finish::Failed);
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_events_cannot_be_read_ends_all_the_same() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    world.log.reads.set(Fault::Down);
    for session in a.actors::<session::SessionMsg>() {
        session.kill();
    }
    let events = world.end_of(id, turn).await;
    assert!(matches!(events.last(), Some(Event::TurnFailed { .. })), "{events:?}");
    world.log.reads.set(Fault::None);
    let retry = world.request(Command::Retry { scene: SceneId(1) });
    let turn = a.command(id, retry).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn a_scene_that_was_stored_by_an_owner_that_died_is_not_stored_twice() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    // The scene is stored, and the log is away when it is to be told so.
    world.scenes.puts.set(Fault::Hang);
    world.when(id, turn, |events| events.last().map(Event::kind) == Some("state.patch")).await;
    world.log.fault.set(Fault::Down);
    world.scenes.puts.set(Fault::None);
    until("the scene is stored", || world.scenes.count(id) == 1).await;
    for turn in a.actors::<turn::Run>() {
        turn.kill();
    }
    pause(1_000).await;
    world.log.fault.set(Fault::None);
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events), "{events:?}");
    // Whoever ends the turn says what is stored.
    assert_eq!(world.scene_of(id, &events).turn, turn);
    assert_eq!(world.scenes.count(id), 1);
}

#[tokio::test(start_paused = true)]
async fn a_turn_survives_a_history_store_that_is_away_while_it_is_taken_up() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    world.scenes.fault.set(Fault::Down);
    for turn in a.actors::<turn::Run>() {
        turn.kill();
    }
    pause(20_000).await;
    world.scenes.fault.set(Fault::None);
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!(world.scene_of(id, &events).text, PROSE);
}
