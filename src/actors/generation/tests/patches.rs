//! A scene's state is what the log's patches make of its parent's, wherever its turn was cut.

use serde_json::json;

use super::script::{Kind, Plan};
use super::*;

/// How an owner goes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Drain,
    Crash,
}

const CUTS: [Cut; 2] = [Cut::Drain, Cut::Crash];

fn patches(events: &[Event]) -> Vec<&Object> {
    let said = events.iter().filter_map(|event| match event {
        Event::StatePatch { patch, .. } => Some(patch),
        _ => None,
    });
    said.collect()
}

/// A second scene, whose parent's state is not empty, told by `provider`; its owner goes as soon as `count` events of it
/// are logged. The events, and the scene.
async fn told_with(provider: Option<&str>, cut: Option<Cut>, count: usize) -> (Vec<Event>, Scene) {
    let world = World::new();
    let a = world.replica("a").await;
    let scenario = Scenario { provider: provider.map(str::to_owned), ..world.scenario() };
    // The same scenario in every world: the storyteller's scenes depend on nothing else.
    let scenario = Scenario { id: ScenarioId(Uuid::from_u128(7)), ..scenario };
    let (id, first) = (scenario.id, world.turn());
    a.handle.create(scenario, first).await.unwrap();
    world.end_of(id, first).await;
    let turn = a.command(id, world.say(1)).await.unwrap();
    let reached = |events: &[Event]| events.len() >= count || events.last().is_some_and(is_last);
    let before = world.when(id, turn, reached).await;
    let _successor = match cut {
        None => None,
        Some(cut) => {
            if matches!(cut, Cut::Drain) {
                a.handle.hand_over().await;
            }
            a.crash();
            Some(world.replica("b").await)
        }
    };
    let events = world.end_of(id, turn).await;
    assert_eq!(events[..before.len()], before, "an event changed");
    assert!(is_done(&events), "{events:?}");
    let scene = world.scene_of(id, &events);
    (events, scene)
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_cut_anywhere_keeps_its_patch() {
    let (whole, told) = told_with(None, None, 0).await;
    assert_eq!(json!(told.state), json!({ "rome": { "asleep": true }, "year": 1204 }));
    assert!(matches!(patches(&whole)[..], [patch] if !patch.is_empty()));
    for cut in CUTS {
        for count in 1..=whole.len() {
            let (events, scene) = told_with(None, Some(cut), count).await;
            assert_eq!(patches(&events), patches(&whole), "{cut:?} after {count}");
            assert_eq!(
                (&scene.text, &scene.choices, &scene.state),
                (&told.text, &told.choices, &told.state),
                "{cut:?} after {count}"
            );
        }
    }
}

/// Who writes the same scene again gives the very rest of it.
#[tokio::test(start_paused = true)]
async fn the_storytellers_scene_is_the_same_wherever_it_is_cut() {
    let teller = Some("storyteller");
    let (whole, told) = told_with(teller, None, 0).await;
    let text_done = whole.iter().position(|event| event.kind() == "text.done").unwrap();
    assert!(told.choices.len() >= 2 && !told.state.is_empty());
    for cut in CUTS {
        let within = (1..text_done).step_by(text_done / 5);
        for count in within.chain(text_done..=whole.len()) {
            let (events, scene) = told_with(teller, Some(cut), count).await;
            assert_eq!(patches(&events), patches(&whole), "{cut:?} after {count}");
            assert_eq!(
                (&scene.text, &scene.choices, &scene.state),
                (&told.text, &told.choices, &told.state),
                "{cut:?} after {count}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_breaks_off_behind_its_choices_is_stood_in_for() {
    let mut behind_choices = 0;
    // The text and its tail, in the script's pieces.
    for after in 1..20 {
        for plan in [Plan::Fail(after, Kind::Network), Plan::Cut(after)] {
            let world = World::new();
            let a = world.replica("a").await;
            world.script.next([plan]);
            let (id, turn) = world.begin(&a).await;
            let events = world.end_of(id, turn).await;
            assert!(is_done(&events), "{plan:?}: {events:?}");
            assert_eq!(patches(&events).len(), 1, "{plan:?}: {events:?}");
            let scene = world.scene_of(id, &events);
            if scene
                .choices
                .iter()
                .map(|choice| &*choice.label)
                .eq(["Wake the city", "Let it sleep"])
            {
                behind_choices += 1;
                assert!(!scene.state.is_empty(), "{plan:?}");
            }
        }
    }
    assert!(behind_choices > 2, "{behind_choices}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_stopped_anywhere_has_the_state_that_was_shown() {
    for count in 1..20 {
        let world = World::new();
        let a = world.replica("a").await;
        let id = world.told(&a).await;
        let turn = a.command(id, world.say(1)).await.unwrap();
        world
            .when(id, turn, |events| events.len() >= count || events.last().is_some_and(is_last))
            .await;
        let _ = a.stop(id, turn).await;
        // Also when the owner dies between the stop and the end.
        if count % 2 == 0 {
            a.crash();
        }
        let b = world.replica("b").await;
        let events = world.end_of(id, turn).await;
        world.scene_of(id, &events);
        drop(b);
    }
}

/// Said in the log, so that a successor does not ask for one.
#[tokio::test(start_paused = true)]
async fn a_scene_that_changes_nothing_says_so() {
    let world = World::new();
    let a = world.replica("a").await;
    world.script.next([Plan::NoPatch]);
    let (id, turn) = world.begin(&a).await;
    let events = world.end_of(id, turn).await;
    assert_eq!(patches(&events), [&Object::new()]);
    assert!(world.scene_of(id, &events).state.is_empty());
    assert_eq!(world.script.calls(), 1);
}
