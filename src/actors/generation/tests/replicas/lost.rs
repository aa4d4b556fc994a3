use super::super::script::PROSE;
use super::super::stores::Fault;
use super::*;
use crate::error::Code;
use std::pin::pin;
use tokio::time::timeout;

async fn lose(world: &World, id: ScenarioId) {
    world.log.lose(id).await;
}

/// What readers have in the end is what is stored, whatever they saw of it on the way.
async fn is_told(world: &World, id: ScenarioId, turn: TurnId, watches: &[Watch]) {
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events), "{events:?}");
    let scene = world.scene_of(id, &events);
    assert_eq!((&*scene.text, scene.turn), (PROSE, turn));
    for watch in watches {
        watch.sees_everything(world, id).await;
        let seen = watch.seen();
        assert_eq!(seen.snapshots, 1, "one break, and no more");
        let draft = seen.draft().expect("the turn was still open");
        assert_eq!((draft.turn, &draft.text, &draft.choices), (turn, &scene.text, &scene.choices));
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_outlives_its_log() {
    for after in (0..1_500).step_by(130) {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let watches = [Watch::begin(&a, id).await, Watch::begin(&b, id).await];
        pause(after).await;
        let shown = watches[1].seen().draft().map(|draft| draft.text).unwrap_or_default();
        lose(&world, id).await;
        let carried = world.when(id, turn, |events| !events.is_empty()).await;
        assert!(fold_unended(&carried).text.starts_with(&shown), "text that was shown is kept");
        is_told(&world, id, turn, &watches).await;
        assert!(world.script.calls() <= 2, "the interrupted call is paid twice, and no other");
        assert_eq!((world.scenes.count(id), b.handle.running_turns()), (1, 0));
        // Answers to commands are carried over too.
        let again = world.request(Command::Begin);
        let again = Request { key: Some("begin".into()), ..again };
        let permit = b.handle.admit().unwrap();
        assert_eq!(b.handle.submit(id, again, permit).await.unwrap(), turn);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_outlives_a_store_that_goes_back_in_time() {
    for (copied, after) in [(150, 300), (150, 900), (450, 600), (450, 1_400), (1_000, 1_200)] {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let watches = [Watch::begin(&a, id).await, Watch::begin(&b, id).await];
        pause(copied).await;
        let put_back = world.log.inner.copy(id);
        pause(after - copied).await;
        let shown = watches[1].seen().draft().unwrap().text;
        put_back();
        let epoch = watches[0].seen().epoch.clone();
        until("the log begins anew", || watches[0].seen().epoch != epoch).await;
        let carried = world.when(id, turn, |events| !events.is_empty()).await;
        assert!(fold_unended(&carried).text.starts_with(&shown), "text that was shown is kept");
        is_told(&world, id, turn, &watches).await;
        assert_eq!(world.scenes.count(id), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_outlives_a_log_that_is_away_for_long_and_then_empty() {
    for away in [20_000, 90_000] {
        let world = World::new();
        let (a, b) = (world.replica("a").await, world.replica("b").await);
        let (id, turn) = world.begin(&a).await;
        let watches = [Watch::begin(&a, id).await, Watch::begin(&b, id).await];
        pause(650).await;
        world.log.fault.set(Fault::Down);
        lose(&world, id).await;
        pause(away).await;
        world.log.fault.set(Fault::None);
        is_told(&world, id, turn, &watches).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_finds_the_log_lost_does_not_take_the_turn_away() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let (id, turn) = world.begin(&a).await;
    let watch = Watch::begin(&a, id).await;
    pause(640).await;
    // The owner is kept from noticing at first.
    a.line.fault.set(Fault::Hold);
    lose(&world, id).await;
    let wake = Arc::new(Wake::default());
    let mut attach = pin!(b.handle.attach(OWNER, id, None, 0, &wake));
    let mut other = pin!(b.command(id, world.say(1)));
    let second = Duration::from_secs(1);
    assert!(timeout(second, &mut attach).await.is_err(), "a reader knows nothing of the turn");
    assert!(timeout(second, &mut other).await.is_err(), "nor does a command");
    a.line.fault.set(Fault::None);
    let snapshot = attach.await.unwrap().snapshot.expect("the log is another one");
    assert_eq!(snapshot.open_turn.map(|draft| draft.turn), Some(turn), "it is still there");
    let refused = other.await.expect_err("the turn is running");
    assert_eq!(refused.code, Code::TurnInProgress);
    let late = Watch::begin(&b, id).await;
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
    assert_eq!(world.scenes.count(id), 1);
    for watch in [watch, late] {
        watch.sees_everything(&world, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_nobody_remembers_is_begun_after_a_while() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    a.crash();
    lose(&world, id).await;
    let since = tokio::time::Instant::now();
    let turn = b.command(id, world.say(1)).await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(3_600), "{:?}", since.elapsed());
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_turn_goes_on_from_its_scenes_when_its_log_is_lost() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    for rest in [100, 8_000] {
        let id = world.told(&a).await;
        let before = Watch::begin(&b, id).await;
        let epoch = before.seen().epoch.clone();
        pause(rest).await;
        lose(&world, id).await;
        let wake = Arc::new(Wake::default());
        let attached = b.handle.attach(OWNER, id, Some(&epoch), 5, &wake).await.unwrap();
        let snapshot = attached.snapshot.expect("the position means nothing any more");
        assert_eq!((snapshot.scenes.len(), snapshot.open_turn), (1, None));
        let turn = b.command(id, world.say(1)).await.unwrap();
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).id, SceneId(2));
        before.sees_everything(&world, id).await;
        assert_ne!(before.seen().epoch, epoch);
    }
}

#[tokio::test(start_paused = true)]
async fn no_number_is_given_twice_when_the_store_goes_back_between_turns() {
    // Whoever goes on has seen what was lost, or knows it from the scenes.
    for (owner, rest) in [(0, 100), (0, 8_000), (1, 8_000), (2, 8_000)] {
        let world = World::new();
        let replicas =
            [world.replica("a").await, world.replica("b").await, world.replica("c").await];
        let id = world.told(&replicas[0]).await;
        let put_back = world.log.inner.copy(id);
        let watches = [Watch::begin(&replicas[0], id).await, Watch::begin(&replicas[1], id).await];
        let turn = replicas[0].command(id, world.say(1)).await.unwrap();
        world.end_of(id, turn).await;
        pause(rest).await;
        let (epoch, head) = {
            let seen = watches[1].seen();
            (seen.epoch.clone(), seen.frames.len() as u64)
        };
        put_back();
        let turn = replicas[owner].command(id, world.say(2)).await.unwrap();
        let events = world.end_of(id, turn).await;
        assert_eq!(world.scene_of(id, &events).id, SceneId(3));
        let wake = Arc::new(Wake::default());
        let late = replicas[2].handle.attach(OWNER, id, Some(&epoch), head, &wake).await.unwrap();
        assert!(late.snapshot.is_some(), "no replay that only looks whole");
        for watch in &watches {
            watch.sees_everything(&world, id).await;
            assert_ne!(watch.seen().epoch, epoch);
        }
    }
}
