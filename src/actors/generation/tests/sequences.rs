//! Whatever readers ask of replicas that come and go: the log stays one, and every reader on every replica sees it.

use std::collections::HashMap;

use proptest::prelude::*;

use super::replicas::Watch;
use super::script::{Kind, Plan};
use super::stores::Fault;
use super::*;
use crate::domain::scenario::Via;

const REPLICAS: usize = 3;

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
    /// Its calls of the log wait so long: it is paused, or cut off.
    Pause(usize, u64),
    Wait(u64),
    Vendor(usize),
    /// Of every so many messages between replicas one gets lost from now on.
    LoseMessages(usize),
}

/// What a store does to the log that everybody relies on.
#[derive(Debug, Clone)]
enum Loss {
    No(Step),
    /// It comes back empty.
    All,
    Copy,
    /// It comes back as it was at the last copy.
    BackToCopy,
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
        6 => (0..REPLICAS, what, 0_u32..5, key)
            .prop_map(|(replica, what, scene, key)| Step::Ask { replica, what, scene, key }),
        1 => (0..REPLICAS).prop_map(Step::Stop),
        2 => (0..REPLICAS).prop_map(Step::Drain),
        1 => (0..REPLICAS).prop_map(Step::Crash),
        6 => (1_u64..2_500).prop_map(Step::Wait),
        2 => (0..VENDOR.len()).prop_map(Step::Vendor),
        1 => (0..REPLICAS, 100_u64..9_000).prop_map(|(replica, millis)| Step::Pause(replica, millis)),
        1 => prop::sample::select(vec![0_usize, 2, 3]).prop_map(Step::LoseMessages),
    ]
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        12 => step().prop_map(Loss::No),
        1 => Just(Loss::All),
        1 => Just(Loss::Copy),
        2 => Just(Loss::BackToCopy),
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

/// Three replicas, each with a reader, one scenario, and what was answered.
struct Play {
    world: World,
    replicas: Vec<(Replica, Watch)>,
    id: ScenarioId,
    last: TurnId,
    names: usize,
    answers: HashMap<String, TurnId>,
}

impl Play {
    async fn begin() -> Self {
        let world = World::new();
        let first = world.replica("r0").await;
        let (id, last) = world.begin(&first).await;
        let mut replicas = vec![(Watch::begin(&first, id).await, first)];
        for name in ["r1", "r2"] {
            let replica = world.replica(name).await;
            replicas.push((Watch::begin(&replica, id).await, replica));
        }
        let replicas = replicas.into_iter().map(|(watch, replica)| (replica, watch)).collect();
        Self { world, replicas, id, last, names: REPLICAS, answers: HashMap::new() }
    }

    async fn step(&mut self, step: Step) {
        let (world, id) = (&self.world, self.id);
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
                if let Ok(turn) = self.replicas[replica].0.command(id, request).await {
                    let first = *self.answers.entry(print).or_insert(turn);
                    assert!(!keyed || first == turn, "a repeat got another answer");
                    self.last = turn;
                }
            }
            Step::Stop(replica) => drop(self.replicas[replica].0.stop(id, self.last).await),
            Step::Drain(at) | Step::Crash(at) => {
                let gone = &self.replicas[at].0;
                if let Step::Drain(_) = step {
                    gone.handle.hand_over().await;
                }
                gone.crash();
                let next = world.replica(&format!("r{}", self.names)).await;
                let watch = Watch::begin(&next, id).await;
                self.replicas[at] = (next, watch);
                self.names += 1;
            }
            Step::Pause(at, millis) => {
                let line = Arc::clone(&self.replicas[at].0.line);
                line.fault.set(Fault::Hold);
                tokio::spawn(async move {
                    pause(millis).await;
                    line.fault.set(Fault::None);
                });
            }
            Step::Wait(millis) => pause(millis).await,
            Step::Vendor(plan) => world.script.next([VENDOR[plan]]),
            Step::LoseMessages(of) => {
                world.bus.lost_of.store(of, std::sync::atomic::Ordering::SeqCst);
            }
        }
        world.events(id).await;
    }

    /// Every turn has ended, with what is stored; every reader has seen every byte of it.
    async fn end(&self) -> Vec<Vec<Event>> {
        let turns = settle(&self.world, self.id).await;
        for (replica, watch) in &self.replicas {
            // One that was paused may only now find that its turn has ended elsewhere.
            until("its places are free", || replica.handle.running_turns() == 0).await;
            watch.sees_everything(&self.world, self.id).await;
        }
        turns
    }
}

async fn play(steps: Vec<Step>) {
    let mut play = Play::begin().await;
    for step in steps {
        play.step(step).await;
    }
    let turns = play.end().await;
    assert!(play.replicas.iter().all(|(_, watch)| watch.seen().snapshots == 0), "a break was seen");
    let told = turns.iter().filter(|turn| fold_unended(turn).via != Via::Jump).count();
    assert_eq!(play.world.scenes.count(play.id), told);
}

async fn play_with_losses(steps: Vec<Loss>) {
    let mut play = Play::begin().await;
    let log = Arc::clone(&play.world.log.inner);
    let mut copy = None;
    for step in steps {
        match step {
            Loss::No(step) => play.step(step).await,
            Loss::All => {
                copy = None;
                log.delete(play.id).await.unwrap();
            }
            Loss::Copy => copy = Some(log.copy(play.id)),
            Loss::BackToCopy => {
                if let Some(put_back) = copy.take() {
                    put_back();
                }
            }
        }
        // Answers are carried over by who has given them; nobody else knows them.
        play.answers.clear();
    }
    // Nobody who was asked before anything was lost may be waiting any more.
    pause(30_000).await;
    let (at, _) = &play.replicas[0];
    at.command(play.id, play.world.request(Command::Retry { scene: SceneId::FIRST }))
        .await
        .unwrap();
    play.end().await;
}

/// Waits until no turn is open; every turn has ended once, and with what is stored.
async fn settle(world: &World, id: ScenarioId) -> Vec<Vec<Event>> {
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
    turns
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_sequence_leaves_one_whole_log_that_every_reader_has_seen(steps in prop::collection::vec(step(), 4..24)) {
        paused().block_on(play(steps));
    }

    #[test]
    fn any_sequence_of_losses_leaves_a_scenario_that_goes_on(steps in prop::collection::vec(loss(), 4..24)) {
        paused().block_on(play_with_losses(steps));
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}
