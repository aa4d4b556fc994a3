use super::script::{NAME, PROSE, Plan};
use super::stores::Fault;
use super::*;
use crate::domain::scenario::Via;

fn keyed(world: &World, command: Command, key: &str) -> Request {
    Request { key: Some(key.to_owned()), ..world.request(command) }
}

fn say(text: &str) -> Command {
    Command::Say { scene: SceneId(1), text: text.into() }
}

async fn code(answer: impl Future<Output = Result<TurnId, ServiceError>>) -> Code {
    answer.await.unwrap_err().code
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_scene_wherever_it_is() {
    for after in (0..2_000).step_by(190) {
        let world = World::new();
        let a = world.replica("a").await;
        let (id, turn) = world.begin(&a).await;
        pause(after).await;
        let stopped = a.stop(id, turn).await;
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events));
        let scene = world.scene_of(id, &events);
        if stopped.is_ok() && scene.text != PROSE {
            assert_eq!(scene.finish, Finish::Stopped, "after {after} ms");
            assert!(PROSE.starts_with(&scene.text));
        }
        assert_eq!(a.stop(id, turn).await.unwrap_err().code, Code::TurnNotFound);
        let turn = a.command(id, world.say(1)).await.unwrap();
        assert!(is_done(&world.end_of(id, turn).await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_a_turn_that_waits_for_its_provider() {
    let world = World::new();
    let a = world.replica("a").await;
    world.script.next([Plan::HangOpen]);
    let (id, turn) = world.begin(&a).await;
    pause(1_000).await;
    a.stop(id, turn).await.unwrap();
    pause(100).await;
    let events = world.turn_events(id, turn).await;
    assert!(is_done(&events), "{events:?}");
    assert_eq!(world.scene_of(id, &events).finish, Finish::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_stop_reaches_a_turn_whose_session_is_about_to_take_it_up() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    for session in a.actors::<session::SessionMsg>() {
        session.kill();
    }
    pause(1).await;
    a.stop(id, turn).await.unwrap();
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).finish, Finish::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_promised_outlives_a_drain() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let (id, turn) = world.begin(&a).await;
    pause(450).await;
    world.scenes.puts.set(Fault::Hang);
    a.stop(id, turn).await.unwrap();
    a.handle.hand_over().await;
    world.scenes.puts.set(Fault::None);
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).finish, Finish::Stopped);
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn one_turn_at_a_time() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    assert_eq!(code(a.command(id, world.say(1))).await, Code::TurnInProgress);
    world.end_of(id, turn).await;
    a.command(id, world.say(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_repeated_command_gets_its_first_answer_whenever_it_comes() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let id = world.told(&a).await;
    let ask = |text: &str, key: &str| a.command(id, keyed(&world, say(text), key));
    // Both at once, then while it runs.
    let (first, second) = tokio::join!(ask("go", "k1"), ask("go", "k1"));
    let turn = first.unwrap();
    assert_eq!(second.unwrap(), turn);
    assert_eq!(ask("go", "k1").await.unwrap(), turn);
    assert_eq!(code(ask("stay", "k1")).await, Code::IdempotencyConflict);
    assert_eq!(code(ask("stay", "k2")).await, Code::TurnInProgress);
    // While the turn is taken up after a crash of its session.
    for session in a.actors::<session::SessionMsg>() {
        session.kill();
    }
    assert_eq!(ask("go", "k1").await.unwrap(), turn);
    world.end_of(id, turn).await;
    assert_eq!(ask("go", "k1").await.unwrap(), turn);
    // While another turn runs.
    let next = a.command(id, world.say(2)).await.unwrap();
    assert_eq!(ask("go", "k1").await.unwrap(), turn);
    assert_eq!(code(ask("stay", "k1")).await, Code::IdempotencyConflict);
    // At another replica, the turn still running.
    a.handle.hand_over().await;
    assert_eq!(b.command(id, keyed(&world, say("go"), "k1")).await.unwrap(), turn);
    world.end_of(id, next).await;
    assert_eq!(world.scenes.count(id), 3);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_command_that_is_refused_is_refused_too() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let retry = || keyed(&world, Command::Retry { scene: SceneId(9) }, "k");
    let (first, second) = tokio::join!(a.command(id, retry()), a.command(id, retry()));
    assert_eq!(first.unwrap_err().code, Code::SceneNotFound);
    assert_eq!(second.unwrap_err().code, Code::SceneNotFound);
}

#[tokio::test(start_paused = true)]
async fn commands_are_checked_against_where_the_story_stands() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let turn = a.command(id, world.say(1)).await.unwrap();
    world.end_of(id, turn).await;
    let choose = |scene, choice: &str| {
        world.request(Command::Choose { scene: SceneId(scene), choice: choice.into() })
    };
    assert_eq!(code(a.command(id, choose(2, "c9"))).await, Code::InvalidRequest);
    assert_eq!(code(a.command(id, choose(1, "c1"))).await, Code::StaleScene);
    assert_eq!(code(a.command(id, choose(7, "c1"))).await, Code::SceneNotFound);
    for scene in [0, 7] {
        for command in [
            Command::Retry { scene: SceneId(scene) },
            Command::Jump { scene: SceneId(scene) },
            Command::Edit { scene: SceneId(scene), text: "No.".into() },
        ] {
            let refused = a.command(id, world.request(command)).await;
            assert_eq!(refused.unwrap_err().code, Code::SceneNotFound);
        }
    }
    let other = a.handle.command(UserId(Uuid::max()), id, world.say(2)).await;
    assert_eq!(other.unwrap_err().code, Code::ScenarioNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_retry_tells_the_same_action_anew() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let choose = Command::Choose { scene: SceneId(1), choice: "c1".into() };
    let turn = a.command(id, world.request(choose)).await.unwrap();
    let first = world.scene_of(id, &world.end_of(id, turn).await);
    let mut told = vec![first.text];
    for of in [2, 3] {
        let retry = world.request(Command::Retry { scene: SceneId(of) });
        let turn = a.command(id, retry).await.unwrap();
        let scene = world.scene_of(id, &world.end_of(id, turn).await);
        assert_eq!(scene.parent, Some(SceneId(1)));
        let text = Some("Wake the city".to_owned());
        let choice = Some("c1".to_owned());
        assert_eq!(scene.via, Via::Retry { of: SceneId(of), choice, text });
        assert!(!told.contains(&scene.text));
        told.push(scene.text);
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_a_sibling_with_the_given_text_and_choices() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let text = "é𝄞 ".repeat(6_000);
    let edit = Command::Edit { scene: SceneId(1), text: text.clone() };
    let turn = a.command(id, world.request(edit)).await.unwrap();
    let events = world.end_of(id, turn).await;
    let scene = world.scene_of(id, &events);
    assert_eq!(scene.text, text.trim());
    assert_eq!((scene.parent, scene.via), (None, Via::Edit { of: SceneId(1) }));
    let authors: Vec<_> = scene.authors.iter().map(|author| &*author.provider).collect();
    assert_eq!(authors, ["reader"]);
    assert!(scene.choices.len() >= 2);
    assert_eq!(world.scenes.scene(id, SceneId(1)).unwrap().text, PROSE);
}

#[tokio::test(start_paused = true)]
async fn a_jump_shows_the_scene_once_more_and_the_story_goes_on_from_there() {
    let world = World::new();
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let turn = a.command(id, world.say(1)).await.unwrap();
    world.end_of(id, turn).await;
    let jump = world.request(Command::Jump { scene: SceneId(1) });
    let turn = a.command(id, jump).await.unwrap();
    let events = world.turn_events(id, turn).await;
    world.scenes.scene(id, SceneId(1)).expect("stored");
    let draft = fold_unended(&events);
    assert_eq!((draft.scene, &*draft.text, draft.choices.len()), (SceneId(1), PROSE, 2));
    assert!(is_done(&events));
    assert_eq!(world.scenes.current(id), Some(SceneId(1)));
    assert_eq!(code(a.command(id, world.say(2))).await, Code::StaleScene);
    let choose = Command::Choose { scene: SceneId(1), choice: "c1".into() };
    let turn = a.command(id, world.request(choose)).await.unwrap();
    let scene = world.scene_of(id, &world.end_of(id, turn).await);
    assert_eq!((scene.id, scene.parent), (SceneId(3), Some(SceneId(1))));
    assert_eq!(scene.authors[0].provider, NAME);
}

#[tokio::test(start_paused = true)]
async fn a_full_replica_refuses_and_nothing_is_stored() {
    let world = World::new();
    let a = world.replica_with("a", |config| config.max_turns = 1).await;
    let (id, turn) = world.begin(&a).await;
    let scenario = world.scenario();
    let refused = scenario.id;
    let error = a.handle.create(scenario, world.turn()).await.unwrap_err();
    assert_eq!(error.code, Code::ServiceUnavailable);
    assert!(world.scenes.scene(refused, SceneId(1)).is_none());
    world.end_of(id, turn).await;
    until("the place is free", || a.handle.running_turns() == 0).await;
    world.told(&a).await;
}
