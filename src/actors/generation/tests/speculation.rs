//! Scenes that are begun before they are chosen: at hand at once, within their bounds, and paid for whatever the reader does.

use crate::providers::prompt;
use std::sync::atomic::Ordering;

use super::script::{Kind, PACE, Plan, USAGE, WORKERS, echoed};
use super::*;
use crate::config::Sessions;
use crate::domain::budget::{Amount, Purse, day_of};
use crate::domain::scenario::Choice;

const LABELS: [&str; 2] = ["Wake the city", "Let it sleep"];
/// Words that are read ahead; the vendor's scene has some thirty.
const WORDS: usize = 8;

fn on(config: &mut Sessions) {
    config.speculate = true;
    config.speculate_words = WORDS;
}

/// A world whose vendor begins each scene with what was chosen, and a replica with a scene told.
async fn world(change: impl FnOnce(&mut Sessions)) -> (World, Replica, ScenarioId) {
    told_in(World::new(), change).await
}

async fn told_in(world: World, change: impl FnOnce(&mut Sessions)) -> (World, Replica, ScenarioId) {
    world.script.echo.store(true, Ordering::SeqCst);
    let a = world
        .replica_with("a", |config| {
            on(config);
            change(config);
        })
        .await;
    let id = world.told(&a).await;
    (world, a, id)
}

fn live(world: &World) -> usize {
    world.script.live.load(Ordering::SeqCst)
}

fn told(world: &World) -> usize {
    world.script.told.load(Ordering::SeqCst)
}

fn choose(world: &World, scene: u32, choice: &str) -> Request {
    world.request(Command::Choose { scene: SceneId(scene), choice: choice.into() })
}

fn spent(world: &World, turn: TurnId) -> Amount {
    world.ledger.of(Purse::Turn(turn)).spent
}

/// All that the user's calls have come to.
fn of_user(world: &World) -> Amount {
    let taken = world.ledger.of(Purse::User(OWNER, day_of(NOW)));
    assert_eq!(taken.reserved, Amount::default(), "nothing stays reserved");
    taken.spent
}

fn whole_call() -> Amount {
    Amount { tokens: USAGE.input_tokens + USAGE.output_tokens, micros: script::PRICE.of(USAGE, 0) }
}

/// The scenario's events, if it has a log.
async fn log_of(world: &World, id: ScenarioId) -> Vec<String> {
    let page = world.log.inner.read(id, 0, usize::MAX).await.unwrap();
    let frames = page.map(|page| page.frames).unwrap_or_default();
    frames.into_iter().map(|(_, frame)| format!("{:?}", frame.decode().unwrap().event)).collect()
}

/// Waits until both scenes have been read as far as they may be.
async fn at_hand(world: &World) {
    until("both are begun", || live(world) == 2).await;
    pause(2_000).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_chosen_goes_on_at_once_and_what_is_not_leaves_no_trace() {
    let (world, a, id) = world(|_| {}).await;
    let before = told(&world);
    at_hand(&world).await;
    let read = told(&world) - before;
    pause(2_000).await;
    assert_eq!(told(&world) - before, read, "a stream that nobody reads is left alone");
    assert!(read < 2 * (WORDS + 2), "no more than the first words of each: {read}");

    let since = tokio::time::Instant::now();
    let turn = a.command(id, choose(&world, 1, "c2")).await.unwrap();
    let first = world.when(id, turn, |events| events.len() > 1).await;
    assert!(since.elapsed() < PACE, "{:?}: that is a vendor's time", since.elapsed());
    assert!(matches!(&first[1], Event::TextDelta { text, .. } if text.len() > 16), "{first:?}");
    until("the other one is given up", || live(&world) == 1).await;

    let events = world.end_of(id, turn).await;
    let scene = world.scene_of(id, &events);
    assert_eq!(scene.text, echoed(Some(LABELS[1])));
    assert_eq!(scene.via, Via::Choose { choice: "c2".into(), text: LABELS[1].into() });
    assert_eq!((scene.choices.len(), scene.usage, scene.authors.len()), (2, USAGE, 1));
    assert_eq!(scene.finish, Finish::Complete);
    let log = log_of(&world, id).await.concat();
    assert!(!log.contains(&format!("So it was: {}", LABELS[0])), "a loser in the log");
    assert_eq!(world.script.calls(), 3, "the chosen scene's call was not made again");

    // What lost was sent its prompt and had written its first words.
    assert_eq!(spent(&world, turn), whole_call());
    a.handle.hand_over().await;
    let lost = of_user(&world).minus(whole_call().plus(whole_call()));
    assert!((300..1_500).contains(&lost.tokens), "{lost:?}");
    let wrote = lost.micros - lost.tokens;
    assert!((8..60).contains(&wrote), "{wrote} tokens");
    // Two more were begun after the chosen scene, or were about to be.
    assert_eq!((live(&world), world.ledger.open()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_turn_is_the_same_as_one_that_nobody_has_begun() {
    let mut scenes = Vec::new();
    for speculate in [false, true] {
        let (world, a, id) = world(|config| config.speculate = speculate).await;
        pause(3_000).await;
        let turn = a.command(id, choose(&world, 1, "c1")).await.unwrap();
        let events = world.end_of(id, turn).await;
        let kinds = events.iter().filter(|event| !matches!(event, Event::TextDelta { .. }));
        let kinds: Vec<_> = kinds.map(std::mem::discriminant).collect();
        let scene = world.scene_of(id, &events);
        let asked = world.script.requests.lock().unwrap();
        let asked = asked.iter().find(|asked| asked.via.text() == Some(LABELS[0])).unwrap();
        let messages = prompt::messages(asked);
        scenes.push((kinds, scene.text, scene.choices, scene.state, scene.usage, messages));
    }
    assert_eq!(scenes[0], scenes[1]);
}

#[tokio::test(start_paused = true)]
async fn whatever_else_happens_gives_them_up_and_pays_for_them() {
    type Act = fn(&World, &Replica, ScenarioId) -> futures::future::BoxFuture<'static, ()>;
    fn command(
        world: &World,
        a: &Replica,
        id: ScenarioId,
        command: Command,
    ) -> futures::future::BoxFuture<'static, ()> {
        let (handle, request) = (a.handle.clone(), world.request(command));
        Box::pin(async move {
            handle.command(OWNER, id, request).await.unwrap();
        })
    }
    let cases: [(&str, usize, Act); 8] = [
        ("say", 1, |w, a, id| command(w, a, id, w.say(1).command)),
        ("retry", 1, |w, a, id| command(w, a, id, Command::Retry { scene: SceneId(1) })),
        ("edit", 1, |w, a, id| {
            let text = "My own words.".into();
            command(w, a, id, Command::Edit { scene: SceneId(1), text })
        }),
        ("jump", 0, |w, a, id| command(w, a, id, Command::Jump { scene: SceneId(1) })),
        ("idleness", 0, |_, _, _| Box::pin(pause(31_000))),
        ("drain", 0, |_, a, _| {
            let handle = a.handle.clone();
            Box::pin(async move { handle.hand_over().await })
        }),
        ("deletion", 0, |_, a, id| {
            let handle = a.handle.clone();
            Box::pin(async move { handle.forget(id).await.unwrap() })
        }),
        ("a lost lease", 0, |_, a, _| {
            let line = Arc::clone(&a.line);
            Box::pin(async move {
                line.fault.set(stores::Fault::Down);
                pause(8_000).await;
                line.fault.set(stores::Fault::None);
            })
        }),
    ];
    for (name, calls, act) in cases {
        let (world, a, id) = world(|_| {}).await;
        at_hand(&world).await;
        assert_eq!((live(&world), world.ledger.open()), (2, 2), "{name}");
        let made = world.script.calls();
        let act = act(&world, &a, id);
        act.await;
        until(name, || live(&world) <= calls && world.ledger.open() <= calls).await;
        assert!(world.script.calls() <= made + calls, "{name}");
        let log = log_of(&world, id).await.concat();
        assert!(!LABELS.iter().any(|label| log.contains(&format!("was: {label}"))), "{name}");
        a.handle.hand_over().await;
        until("all is settled", || world.ledger.open() == 0).await;
        assert!(of_user(&world).tokens > whole_call().tokens + 600, "{name}: both were sent");
        assert_eq!(live(&world), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_off_unless_it_is_wanted_and_never_goes_beyond_its_bounds() {
    let places = WORKERS / 4;
    for (name, change, begun) in [
        ("off", (|config| config.speculate = false) as fn(&mut Sessions), 0),
        ("one choice of each scene", |config| config.speculate_choices = 1, 4),
        ("the replica's places", |config| config.speculate_streams = 3, 3),
        ("the provider's places", |_| {}, places),
    ] {
        let (world, a, _) = world(change).await;
        for _ in 0..3 {
            world.told(&a).await;
        }
        // Those of the first ones were begun meanwhile, and are held.
        pause(3_000).await;
        assert_eq!(live(&world), begun, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_goes_on_at_once_costs_nothing_extra() {
    let (world, a, id) = world(|_| {}).await;
    let turn = a.command(id, choose(&world, 1, "c1")).await.unwrap();
    world.end_of(id, turn).await;
    assert_eq!((world.script.calls(), spent(&world, turn)), (2, whole_call()));
    assert_eq!(of_user(&world), whole_call().plus(whole_call()));
}

#[tokio::test(start_paused = true)]
async fn they_never_take_what_the_readers_own_call_needs() {
    // A call is reserved with some 1,200 tokens: there is room for one, or for two and a bit.
    for (tokens, begun) in [(2_000, 0), (3_000, 1)] {
        let budget = config::Budget { user_tokens: Some(tokens), ..config::Budget::default() };
        let (world, a, id) = told_in(World { budget, ..World::new() }, |_| {}).await;
        pause(3_000).await;
        assert_eq!(live(&world), begun, "{tokens}");
        let turn = a.command(id, world.say(1)).await.unwrap();
        assert!(is_done(&world.end_of(id, turn).await));
        assert_eq!(spent(&world, turn), whole_call());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_only_being_opened_is_waited_for() {
    let (world, a, id) = {
        let world = World::new();
        world.script.next([Plan::Whole, Plan::OpenLate(3_000), Plan::OpenLate(3_000)]);
        told_in(world, |_| {}).await
    };
    until("both are asked for", || world.script.calls() == 3).await;
    pause(1_000).await;
    let since = tokio::time::Instant::now();
    let turn = a.command(id, choose(&world, 1, "c1")).await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(100), "the command itself waits for nobody");
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, echoed(Some(LABELS[0])));
    assert_eq!((world.script.calls(), spent(&world, turn)), (3, whole_call()));
    // Stopped meanwhile, it is paid for as any other that was sent.
    world.script.next([Plan::HangOpen, Plan::HangOpen]);
    until("the next ones are asked for", || world.script.calls() == 5).await;
    let turn = a.command(id, choose(&world, 2, "c1")).await.unwrap();
    pause(100).await;
    a.stop(id, turn).await.unwrap();
    world.end_of(id, turn).await;
    until("it is settled", || world.ledger.open() == 0).await;
    assert!(spent(&world, turn).tokens > 300);
}

#[tokio::test(start_paused = true)]
async fn what_goes_wrong_ahead_is_nobodys_loss() {
    for (name, plan, calls) in [
        ("refused", Plan::Refuse(Kind::ContentFilter), 4),
        ("broken off while it is read", Plan::Fail(1, Kind::ContentFilter), 4),
        ("ended without an end", Plan::Cut(1), 4),
        ("panics", Plan::Panic(1), 4),
        ("broken off when it is chosen", Plan::Fail(5, Kind::ContentFilter), 3),
        ("nothing but white space", Plan::Silent, 3),
    ] {
        let world = World::new();
        world.script.next([Plan::Whole, plan, plan]);
        let (world, a, id) = told_in(world, |_| {}).await;
        until(name, || world.script.calls() == 3).await;
        pause(3_000).await;
        let turn = a.command(id, choose(&world, 1, "c1")).await.unwrap();
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events), "{name}");
        let scene = world.scene_of(id, &events);
        assert!(scene.choices.len() >= 2 && !scene.text.is_empty(), "{name}");
        assert_eq!(world.script.calls(), calls, "{name}");
        a.handle.hand_over().await;
        until("all is settled", || world.ledger.open() == 0).await;
        of_user(&world);
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_dies_with_what_was_chosen_leaves_nothing_reserved() {
    let (world, a, id) = world(|_| {}).await;
    let b = world.replica("b").await;
    at_hand(&world).await;
    let turn = a.command(id, choose(&world, 1, "c1")).await.unwrap();
    pause(300).await;
    a.crash();
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events));
    assert!(world.scene_of(id, &events).text.starts_with(&format!("So it was: {}", LABELS[0])));
    until("all is settled", || world.ledger.open() == 0).await;
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn the_storytellers_scenes_need_no_start() {
    let world = World::new();
    let a = world.replica_with("a", on).await;
    let scenario = Scenario { provider: Some("storyteller".into()), ..world.scenario() };
    let (id, turn) = (scenario.id, world.turn());
    a.handle.create(scenario, turn).await.unwrap();
    let events = world.end_of(id, turn).await;
    let offered: Vec<Choice> = world.scene_of(id, &events).choices;
    pause(3_000).await;
    assert!(offered.len() >= 2 && world.script.calls() == 0 && world.ledger.open() == 0);
    pause(3_000).await;
    assert_eq!(a.handle.held_leases(), 0, "pen and lease are not kept for nothing");
}
