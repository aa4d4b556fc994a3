//! Long stories: their early scenes are told to models in short, each branch its own.

use super::*;
use crate::providers::text::Chapter;

/// Goes on from the current scene, and rewrites the scene that comes of it, so that it is long and says what it is.
async fn long_scene(world: &World, a: &Replica, id: ScenarioId, what: &str) -> SceneId {
    let at = world.scenes.current(id).unwrap();
    let turn = a.command(id, world.say(at.0)).await.unwrap();
    world.end_of(id, turn).await;
    let of = world.scenes.current(id).unwrap();
    let text = format!("Here {what}. {}", "And so it went on for a while. ".repeat(60));
    let turn = a.command(id, world.request(Command::Edit { scene: of, text })).await.unwrap();
    world.end_of(id, turn).await;
    world.scenes.current(id).unwrap()
}

/// What the vendor was sent last.
fn last_chapters(world: &World) -> Vec<Chapter> {
    let requests = world.script.requests.lock().unwrap();
    requests.last().unwrap().chapters.to_vec()
}

#[tokio::test(start_paused = true)]
async fn early_scenes_are_summed_up_once_and_for_their_own_branch() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let mut scenes = Vec::new();
    for n in 0..14 {
        scenes.push(long_scene(&world, &a, id, &format!("stands fact {n}")).await);
    }
    assert_eq!(world.script.talks.lock().unwrap().len(), 1, "one chapter, once");
    let asked = world.script.talks.lock().unwrap()[0].clone();
    assert!(asked.contains("fact 0.") && asked.contains("fact 6.") && !asked.contains("fact 7."));
    let summary = "Summary number 1.".to_owned();
    assert_eq!(last_chapters(&world), [Chapter { scenes: 0..8, summary: summary.clone() }]);

    // Another branch from the middle shares nothing that it does not pass through.
    let turn = a.command(id, world.request(Command::Jump { scene: scenes[3] })).await.unwrap();
    world.end_of(id, turn).await;
    for n in 0..10 {
        long_scene(&world, &a, id, &format!("stands another fact {n}")).await;
    }
    let own = last_chapters(&world);
    assert_eq!(own, [Chapter { scenes: 0..8, summary: "Summary number 2.".into() }]);
    let asked = world.script.talks.lock().unwrap()[1].clone();
    assert!(
        asked.contains("fact 3.")
            && asked.contains("another fact 2.")
            && !asked.contains("fact 5.")
    );

    // Back on the first one its own chapter is still there.
    let turn = a.command(id, world.request(Command::Jump { scene: scenes[13] })).await.unwrap();
    world.end_of(id, turn).await;
    long_scene(&world, &a, id, "ends it").await;
    assert_eq!(last_chapters(&world)[0].summary, summary);
    assert_eq!(world.ledger.open(), 0, "every summary is paid for");
}

#[tokio::test(start_paused = true)]
async fn a_short_story_is_sent_as_it_is() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    for scene in 1..16 {
        let turn = a.command(id, world.say(scene)).await.unwrap();
        world.end_of(id, turn).await;
    }
    assert_eq!((world.script.talks.lock().unwrap().len(), last_chapters(&world)), (0, vec![]));
}
