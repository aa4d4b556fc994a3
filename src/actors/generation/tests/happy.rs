use serde_json::json;

use super::script::{NAME, PROSE, USAGE};
use super::stores::Fault;
use super::*;
use crate::domain::scenario::Author;

#[tokio::test(start_paused = true)]
async fn a_turn_is_logged_in_order_and_stored_as_it_was_shown() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    let events = world.end_of(id, turn).await;
    let mut kinds: Vec<_> = events.iter().map(Event::kind).collect();
    kinds.dedup();
    let order = [
        "turn.started",
        "text.delta",
        "text.done",
        "choice",
        "choices.done",
        "state.patch",
        "turn.done",
    ];
    assert_eq!(kinds, order);
    assert!(is_done(&events));
    let scene = world.scene_of(id, &events);
    assert_eq!((scene.text.as_str(), scene.usage, scene.finish), (PROSE, USAGE, Finish::Complete));
    assert_eq!(json!(scene.state), json!({ "rome": { "asleep": true }, "year": 1204 }));
    let author = Author { provider: NAME.into(), model: "model-1".into(), off: 0 };
    assert_eq!(scene.authors, [author]);
    let labels: Vec<_> = scene.choices.iter().map(|choice| choice.label.as_str()).collect();
    assert_eq!(labels, ["Wake the city", "Let it sleep"]);
    assert_eq!(scene.choices[0].hint.as_deref(), Some("loud"));
    assert_eq!(world.scenes.current(id), Some(SceneId(1)));
}

#[tokio::test(start_paused = true)]
async fn readers_see_exactly_what_is_logged() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    let wake = Arc::new(Wake::default());
    let mut reader = a.handle.attach(OWNER, id, None, 0, &wake).await.unwrap().reader;
    let mut shown = Vec::new();
    loop {
        while reader.take(usize::MAX, &mut shown) == Taken::Frames {}
        let logged = world.log.inner.read(id, 0, usize::MAX).await.unwrap().unwrap().frames;
        assert_eq!(shown[..], logged[..shown.len()]);
        if shown.last().is_some_and(|(_, frame)| frame.kind() == "turn.done") {
            break;
        }
        std::future::poll_fn(|context| wake.poll(context)).await;
    }
    assert_eq!(shown.len(), world.turn_events(id, turn).await.len());
}

#[tokio::test(start_paused = true)]
async fn the_patch_of_each_scene_goes_on_top_of_its_parents() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let choose = Command::Choose { scene: SceneId(1), choice: "c2".into() };
    let turn = a.command(id, world.request(choose)).await.unwrap();
    let scene = world.scene_of(id, &world.end_of(id, turn).await);
    assert_eq!(scene.parent, Some(SceneId(1)));
    assert_eq!(
        json!(scene.via),
        json!({ "kind": "choose", "choice": "c2", "text": "Let it sleep" })
    );
    assert_eq!(scene.state["year"], 1204);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_before_the_scene_is_stored() {
    let world = World::new();
    let a = world.replica("a").await;
    for fault in [Fault::Down, Fault::Hang] {
        let (id, turn) = world.begin(&a).await;
        world.scenes.puts.set(fault);
        pause(30_000).await;
        let events = world.turn_events(id, turn).await;
        assert_eq!(events.last().map(Event::kind), Some("state.patch"), "{fault:?}");
        world.scenes.puts.set(Fault::None);
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events), "{fault:?}");
        world.scene_of(id, &events);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_fails_the_turn_and_the_first_scene_can_be_told_again() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    world.scenes.puts.set(Fault::Down);
    let events = world.end_of(id, turn).await;
    assert!(matches!(
        events.last(),
        Some(Event::TurnFailed { error, retryable: true, .. }) if error == "service_unavailable"
    ));
    world.scenes.puts.set(Fault::None);
    pause(10_000).await;
    // Without any scene there is nothing to say or choose.
    let again = world.request(Command::Retry { scene: SceneId(1) });
    let turn = a.command(id, again).await.unwrap();
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events));
    assert_eq!(world.scene_of(id, &events).parent, None);
    let turn = a.command(id, world.say(2)).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}
