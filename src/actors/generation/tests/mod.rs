//! Sessions and turns as a whole, through [`GenerationHandle`]: the real tree, the in-memory log and the storyteller, on
//! a paused clock. Only the vendor, the scenario store and the log's failures are scripted.

mod chapters;
mod commands;
mod expenses;
mod failover;
mod faults;
mod handover;
mod happy;
mod hedging;
mod idle;
mod memory;
mod moderation;
mod patches;
mod replicas;
mod restarts;
mod script;
mod sequences;
mod speculation;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ractor::{Actor, ActorCell, Message};
use uuid::Uuid;

use self::script::Script;
use self::stores::{FaultyBus, FaultyLog, Ledger, Scenes};
use super::*;
use crate::actors::cache::CacheHandle;
use crate::actors::circuit::Policy;
use crate::actors::history;
use crate::actors::supervisor::{Excess, Intensity, Supervisor, SupervisorArgs};
use crate::domain::event::Event;
use crate::domain::ids::SceneId;
use crate::domain::patch::{self, Object};
use crate::domain::scenario::{Finish, Length, Scene, Via, content_hash, utf16_len};
use crate::providers::storyteller::StorytellerProvider;
use crate::storage::embedded::LocalCache;
use tokio::time::timeout;

use super::shard::ShardMsg;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const OWNER: UserId = UserId(Uuid::from_u128(1));

/// What replicas share: the stores and the vendor.
struct World {
    log: Arc<FaultyLog>,
    bus: Arc<FaultyBus>,
    scenes: Arc<Scenes>,
    ledger: Arc<Ledger>,
    cache: CacheHandle,
    /// Of every replica started from now on.
    budget: config::Budget,
    script: Arc<Script>,
    /// A second vendor, and the share of scenes it may be asked for as well.
    rival: Option<(Arc<hedging::Rival>, f64)>,
    /// Who judges what is told, and what if it cannot.
    censor: Option<(Arc<moderation::Censor>, config::OnFailure)>,
    clock: Clock,
}

/// One process of them.
struct Replica {
    handle: GenerationHandle,
    root: ActorCell,
    /// Its own way to the log.
    line: Arc<FaultyLog>,
    status: Arc<ServiceStatus>,
}

fn policy() -> Policy {
    Policy {
        window: Duration::from_secs(10),
        min_calls: 4,
        failure_ratio: 0.5,
        backoff_min: Duration::from_millis(200),
        backoff_max: Duration::from_secs(5),
    }
}

impl World {
    fn new() -> Self {
        Self {
            log: Arc::default(),
            bus: Arc::default(),
            scenes: Arc::default(),
            ledger: Arc::default(),
            cache: CacheHandle::new(&config::Cache::default(), Arc::new(LocalCache::new(1 << 20))),
            budget: config::Budget::default(),
            script: Arc::default(),
            rival: None,
            censor: None,
            clock: Clock::starting_at(NOW),
        }
    }

    async fn replica(&self, name: &str) -> Replica {
        self.replica_with(name, |_| {}).await
    }

    async fn replica_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut config::Sessions),
    ) -> Replica {
        self.replica_at(name, self.clock.clone(), change).await
    }

    /// A replica whose clock shows what it likes.
    async fn replica_at(
        &self,
        name: &str,
        clock: Clock,
        change: impl FnOnce(&mut config::Sessions),
    ) -> Replica {
        let mut config = config::Sessions { shards: 2, max_turns: 64, ..Default::default() };
        config.store_wait = Duration::from_secs(60);
        change(&mut config);
        let scenes = Arc::clone(&self.scenes) as Arc<dyn crate::storage::scenario::ScenarioStore>;
        let (history, row, _) = history::build(scenes, clock.clone(), policy());
        let spec = |provider, concurrency| TextSpec {
            provider,
            concurrency,
            open_deadline: Duration::from_secs(20),
        };
        let storyteller = StorytellerProvider::new(200.0);
        let script = Arc::clone(&self.script) as Arc<dyn crate::providers::text::TextProvider>;
        let mut texts = vec![spec(script, script::WORKERS), spec(Arc::new(storyteller), 4)];
        let mut budget = 0.0;
        if let Some((rival, share)) = &self.rival {
            texts.insert(1, spec(Arc::clone(rival) as _, script::WORKERS));
            budget = *share;
        }
        let line = Arc::new(self.log.line());
        let (handle, rows, status) = build(Parts {
            log: Arc::clone(&line) as _,
            bus: Some(Arc::clone(&self.bus) as _),
            history,
            texts: TextProviders::new(texts, &policy()).hedged(hedging::AFTER, budget),
            budget: budget::Parts {
                store: Arc::clone(&self.ledger) as _,
                config: self.budget.clone(),
                circuit: policy(),
            },
            cache: self.cache.clone(),
            moderation: moderation::handle(self.censor.as_ref()),
            clock,
            config,
            retention: Duration::from_secs(3600),
            replica: name.to_owned(),
        });
        let per_minute = Intensity::new(5, Duration::from_secs(60));
        let rows = [row].into_iter().chain(rows).map(|row| row.intensity(per_minute)).collect();
        let excess = Excess::Contain { revive_after: Duration::from_secs(30) };
        let args = SupervisorArgs { name: "root", children: rows, excess };
        let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
        Replica { handle, root: root.get_cell(), line, status }
    }

    /// A scenario that `replica` has begun, and its first turn.
    async fn begin(&self, replica: &Replica) -> (ScenarioId, TurnId) {
        let scenario = self.scenario();
        let (id, turn) = (scenario.id, self.turn());
        assert_eq!(replica.handle.create(scenario, turn).await.unwrap(), turn);
        (id, turn)
    }

    /// As [`World::begin`], with its first turn done.
    async fn told(&self, replica: &Replica) -> ScenarioId {
        let (id, turn) = self.begin(replica).await;
        self.end_of(id, turn).await;
        id
    }

    fn scenario(&self) -> Scenario {
        Scenario {
            id: ScenarioId::new(self.clock.now()),
            owner: OWNER,
            title: "Rome".into(),
            prompt: "What if Rome never fell?".into(),
            genre: None,
            tone: None,
            length: Length::Short,
            language: "en".into(),
            provider: None,
            model: None,
            seed: 7,
            tags: Vec::new(),
            favorite: false,
            created_at: NOW,
            updated_at: NOW,
            scene_count: 0,
            current_scene: None,
        }
    }

    fn turn(&self) -> TurnId {
        TurnId::new(self.clock.now())
    }

    fn request(&self, command: Command) -> Request {
        Request { command, key: None, turn: self.turn() }
    }

    fn say(&self, scene: u32) -> Request {
        self.request(Command::Say { scene: SceneId(scene), text: "Open the gate.".into() })
    }

    /// The whole log, after checking that it is one.
    async fn events(&self, scenario: ScenarioId) -> Vec<Event> {
        let page = self.log.inner.read(scenario, 0, usize::MAX).await.unwrap();
        // A log that was lost begins after what it cannot hold.
        let first = page.as_ref().map_or(1, |page| page.extent.first);
        let frames = page.map(|page| page.frames).unwrap_or_default();
        let mut events = Vec::new();
        for (at, (seq, frame)) in (first..).zip(frames) {
            let addressed = frame.decode().unwrap();
            assert_eq!((seq, addressed.seq), (at, at), "a gap");
            events.push(addressed.event);
        }
        check(&events);
        events
    }

    async fn turn_events(&self, scenario: ScenarioId, turn: TurnId) -> Vec<Event> {
        let events = self.events(scenario).await;
        events.into_iter().filter(|event| turn_of(event) == turn).collect()
    }

    /// Waits for the turn's last event; its events.
    async fn end_of(&self, scenario: ScenarioId, turn: TurnId) -> Vec<Event> {
        self.when(scenario, turn, |events| events.last().is_some_and(is_last)).await
    }

    /// Waits until the turn's events are what is wanted.
    async fn when(
        &self,
        scenario: ScenarioId,
        turn: TurnId,
        wanted: impl Fn(&[Event]) -> bool,
    ) -> Vec<Event> {
        let wait = async {
            loop {
                let events = self.turn_events(scenario, turn).await;
                if wanted(&events) {
                    return events;
                }
                pause(20).await;
            }
        };
        match timeout(Duration::from_secs(400), wait).await {
            Ok(events) => events,
            Err(_) => panic!("stuck at {:?}", self.turn_events(scenario, turn).await),
        }
    }

    /// The scene that `turn.done` speaks of, after checking that both say the same.
    fn scene_of(&self, scenario: ScenarioId, events: &[Event]) -> Scene {
        let draft = fold_unended(events);
        let scene = self.scenes.scene(scenario, draft.scene).expect("the scene is stored");
        assert_eq!(scene.text, draft.text);
        assert_eq!(scene.choices, draft.choices);
        assert_eq!(scene.hash, content_hash(&scene.text));
        assert_eq!(scene.state, self.folded(scenario, &draft), "the state is not the log's");
        if let Some(Event::TurnDone { scene: id, finish, usage, hash, .. }) = events.last() {
            assert_eq!((*id, *finish, *usage), (scene.id, scene.finish, scene.usage));
            assert_eq!(*hash, scene.hash);
        }
        scene
    }

    /// The world state as a client has it that has read the log.
    fn folded(&self, scenario: ScenarioId, draft: &Draft) -> Object {
        let from = match draft.via {
            Via::Jump => Some(draft.scene),
            _ => draft.parent,
        };
        let parent = from.map(|scene| self.scenes.scene(scenario, scene).expect("a parent"));
        let mut state = parent.map(|scene| scene.state).unwrap_or_default();
        if let Some(changes) = &draft.patch {
            patch::merge(&mut state, changes);
        }
        state
    }
}

impl Replica {
    async fn command(
        &self,
        scenario: ScenarioId,
        request: Request,
    ) -> Result<TurnId, ServiceError> {
        self.handle.command(OWNER, scenario, request).await
    }

    async fn stop(&self, scenario: ScenarioId, turn: TurnId) -> Result<(), ServiceError> {
        self.handle.stop(OWNER, scenario, turn).await
    }

    /// The process dies.
    fn crash(&self) {
        self.root.kill();
    }

    /// Actors of the tree by what they are told.
    fn actors<M: Message>(&self) -> Vec<ActorCell> {
        let mut found = Vec::new();
        let mut rest = vec![self.root.clone()];
        while let Some(cell) = rest.pop() {
            rest.extend(cell.get_children());
            if cell.is_message_type_of::<M>() == Some(true) {
                found.push(cell);
            }
        }
        found
    }
}

fn turn_of(event: &Event) -> TurnId {
    match event {
        Event::TurnStarted { turn, .. }
        | Event::TextDelta { turn, .. }
        | Event::TextDone { turn, .. }
        | Event::Choice { turn, .. }
        | Event::ChoicesDone { turn }
        | Event::StatePatch { turn, .. }
        | Event::TurnFailover { turn, .. }
        | Event::TurnDone { turn, .. }
        | Event::TurnRetracted { turn, .. }
        | Event::TurnFailed { turn, .. } => *turn,
    }
}

fn is_last(event: &Event) -> bool {
    matches!(event, Event::TurnDone { .. } | Event::TurnFailed { .. })
}

fn is_done(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::TurnDone { .. }))
}

fn fold_unended(events: &[Event]) -> Draft {
    Draft::fold(events.iter().filter(|event| !is_last(event))).unwrap()
}

/// What holds for every log: one turn at a time, offsets that fit, nothing after its end.
fn check(events: &[Event]) {
    let mut open: Option<Draft> = None;
    for event in events {
        let Some(draft) = &mut open else {
            open =
                Some(Draft::begin(event).unwrap_or_else(|| panic!("no turn is open: {event:?}")));
            continue;
        };
        assert_eq!(turn_of(event), draft.turn, "two turns at once");
        match event {
            Event::TurnStarted { .. } => panic!("begun twice: {event:?}"),
            Event::TextDelta { off, text, .. } => {
                assert!(!draft.text_done && !text.is_empty(), "{event:?}");
                assert_eq!(*off, utf16_len(&draft.text));
            }
            Event::TurnFailover { off, from, .. } => {
                assert_eq!(*off, draft.units);
                assert_eq!(*from, draft.authors.last().unwrap().provider);
            }
            Event::TextDone { len, .. } => {
                assert!(!draft.text_done, "{event:?}");
                assert_eq!(*len, draft.units);
            }
            Event::Choice { choice, .. } => {
                assert!(draft.text_done && !draft.choices_done, "{event:?}");
                assert_eq!(choice.id, format!("c{}", draft.choices.len() + 1));
            }
            Event::ChoicesDone { .. } => assert!(draft.text_done && !draft.choices_done),
            Event::StatePatch { .. } => assert!(draft.text_done && draft.patch.is_none()),
            Event::TurnDone { finish, .. } => {
                assert!(draft.text_done && draft.choices_done, "{event:?}");
                let may_lack = *finish == Finish::Stopped || draft.via == Via::Jump;
                assert!(draft.patch.is_some() || may_lack, "no patch: {event:?}");
                // A scene that failed may be jumped to; no turn ends so.
                assert!(*finish != Finish::Failed || draft.via == Via::Jump);
            }
            Event::TurnRetracted { .. } | Event::TurnFailed { .. } => {}
        }
        draft.apply(event);
        if is_last(event) {
            open = None;
        }
    }
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let wait = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(400), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
