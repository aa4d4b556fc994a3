//! Whatever readers ask of two replicas that come and go: the log stays one.

use std::collections::HashMap;

use proptest::prelude::*;

use super::script::{Kind, Plan};
use super::*;
use crate::domain::scenario::Via;

#[derive(Debug, Clone)]
enum Step {
    Ask {
        replica: usize,
        what: Ask,
        scene: u32,
        key: Option<u8>,
    },
    Stop(usize),
    /// Drained; another process takes its place.
    Drain(usize),
    Crash(usize),
    Wait(u64),
    Vendor(usize),
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Choose,
    Say,
    Retry,
    Edit,
    Jump,
}

const VENDOR: [Plan; 7] = [
    Plan::Fail(3, Kind::Network),
    Plan::Panic(2),
    Plan::Cut(4),
    Plan::Silent,
    Plan::OneChoice,
    Plan::Refuse(Kind::ContentFilter),
    Plan::Stall(1),
];

fn step() -> impl Strategy<Value = Step> {
    let what = prop::sample::select(vec![Ask::Choose, Ask::Say, Ask::Retry, Ask::Edit, Ask::Jump]);
    let key = prop::option::weighted(0.3, 0_u8..3);
    prop_oneof![
        6 => (0_usize..2, what, 0_u32..5, key)
            .prop_map(|(replica, what, scene, key)| Step::Ask { replica, what, scene, key }),
        1 => (0_usize..2).prop_map(Step::Stop),
        2 => (0_usize..2).prop_map(Step::Drain),
        1 => (0_usize..2).prop_map(Step::Crash),
        6 => (1_u64..2_500).prop_map(Step::Wait),
        2 => (0..VENDOR.len()).prop_map(Step::Vendor),
    ]
}

fn command(what: Ask, scene: SceneId) -> Command {
    match what {
        Ask::Choose => Command::Choose { scene, choice: "c1".into() },
        Ask::Say => Command::Say { scene, text: "Go on.".into() },
        Ask::Retry => Command::Retry { scene },
        Ask::Edit => Command::Edit { scene, text: "It was é𝄞 otherwise.".into() },
        Ask::Jump => Command::Jump { scene },
    }
}

async fn play(steps: Vec<Step>) {
    let world = World::new();
    let mut replicas = [world.replica("r0").await, world.replica("r1").await];
    let (id, first) = world.begin(&replicas[0]).await;
    let mut names = 2;
    let mut answers: HashMap<String, TurnId> = HashMap::new();
    let mut last = first;
    for step in steps {
        match step {
            Step::Ask { replica, what, scene, key } => {
                let scene = match scene {
                    0 => world.scenes.current(id).unwrap_or(SceneId::FIRST),
                    scene => SceneId(scene),
                };
                let print = format!("{key:?} {:?}", command(what, scene));
                let key = key.map(|key| key.to_string());
                let keyed = key.is_some();
                let request = Request { key, ..world.request(command(what, scene)) };
                if let Ok(turn) = replicas[replica].command(id, request).await {
                    let first = *answers.entry(print).or_insert(turn);
                    assert!(!keyed || first == turn, "a repeat got another answer");
                    last = turn;
                }
            }
            Step::Stop(replica) => drop(replicas[replica].stop(id, last).await),
            Step::Drain(at) | Step::Crash(at) => {
                match step {
                    Step::Drain(_) => replicas[at].handle.hand_over().await,
                    _ => replicas[at].crash(),
                }
                replicas[at].crash();
                replicas[at] = world.replica(&format!("r{names}")).await;
                names += 1;
            }
            Step::Wait(millis) => pause(millis).await,
            Step::Vendor(plan) => world.script.next([VENDOR[plan]]),
        }
        world.events(id).await;
    }
    settle(&world, id).await;
    for replica in &replicas {
        assert_eq!(replica.handle.running_turns(), 0);
    }
}

/// Waits until no turn is open; every turn has ended once, and with what is stored.
async fn settle(world: &World, id: ScenarioId) {
    let mut turns: Vec<Vec<Event>> = Vec::new();
    for _ in 0..2_000 {
        pause(100).await;
        turns.clear();
        for event in world.events(id).await {
            match event {
                Event::TurnStarted { .. } => turns.push(vec![event]),
                event => turns.last_mut().unwrap().push(event),
            }
        }
        if turns.iter().all(|turn| turn.last().is_some_and(is_last)) {
            break;
        }
    }
    pause(100).await;
    let mut ids = std::collections::HashSet::new();
    for turn in &turns {
        assert!(turn.last().is_some_and(is_last), "left open: {turn:?}");
        assert!(ids.insert(turn_of(&turn[0])), "a turn was told twice");
        let draft = fold_unended(turn);
        let scene = world.scenes.scene(id, draft.scene).expect("no turn ends without a scene");
        assert_eq!((&scene.text, &scene.choices), (&draft.text, &draft.choices));
        if draft.via != Via::Jump {
            assert_eq!(scene.turn, draft.turn);
            world.scene_of(id, turn);
        }
    }
    assert_eq!(
        world.scenes.count(id),
        turns.iter().filter(|t| fold_unended(t).via != Via::Jump).count()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_sequence_leaves_one_whole_log(steps in prop::collection::vec(step(), 4..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(steps));
    }
}
