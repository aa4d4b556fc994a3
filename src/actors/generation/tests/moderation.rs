//! What a model tells is shown once it was judged, and never what was blocked, however the checker behaves.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::script::{NAME, PROSE, Plan};
use super::*;
use crate::actors::moderation::{ModerationHandle, Spec};
use crate::config::OnFailure;
use crate::providers::moderation::{ModerationProvider, Verdict};
use crate::providers::text::{ProviderError, ProviderErrorKind};

const STORYTELLER: &str = "storyteller";
const TIMEOUT: Duration = Duration::from_secs(2);
/// The prose has about four windows.
const WINDOW: usize = 40;

/// A checker across the network that does what a test says.
#[derive(Default)]
pub struct Censor {
    banned: Mutex<Vec<&'static str>>,
    mood: Mutex<Mood>,
    pub asked: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Mood {
    #[default]
    Quick,
    Slow(Duration),
    Hangs,
    Down,
}

impl Censor {
    fn ban(&self, words: &[&'static str]) {
        *self.banned.lock().unwrap() = words.to_vec();
    }

    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

#[async_trait]
impl ModerationProvider for Censor {
    fn name(&self) -> &str {
        "censor"
    }

    async fn check(&self, text: &str) -> Result<Verdict, ProviderError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Quick => {}
            Mood::Slow(time) => tokio::time::sleep(time).await,
            Mood::Hangs => std::future::pending().await,
            Mood::Down => return Err(ProviderError::new(ProviderErrorKind::Network, "down")),
        }
        let blocked = self.banned.lock().unwrap().iter().any(|word| text.contains(word));
        Ok(match blocked {
            true => Verdict::Blocked { category: "violence".into() },
            false => Verdict::Allowed,
        })
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        match *self.mood.lock().unwrap() {
            Mood::Quick | Mood::Slow(_) => Ok(()),
            _ => Err(ProviderError::new(ProviderErrorKind::Network, "down")),
        }
    }
}

pub fn handle(censor: Option<&(Arc<Censor>, OnFailure)>) -> ModerationHandle {
    let Some((censor, on_failure)) = censor else { return ModerationHandle::default() };
    let spec = Spec {
        provider: Arc::clone(censor) as _,
        pool: "moderation.censor",
        concurrency: 8,
        timeout: TIMEOUT,
        on_failure: *on_failure,
        window_chars: WINDOW,
    };
    ModerationHandle::new(spec, &policy())
}

fn world(on_failure: OnFailure) -> (World, Arc<Censor>) {
    let censor = Arc::new(Censor::default());
    (World { censor: Some((Arc::clone(&censor), on_failure)), ..World::new() }, censor)
}

fn failovers(events: &[Event]) -> Vec<(&str, &str)> {
    let said = events.iter().filter_map(|event| match event {
        Event::TurnFailover { to, reason, .. } => Some((to.as_str(), reason.as_str())),
        _ => None,
    });
    said.collect()
}

fn text(events: &[Event]) -> String {
    fold_unended(events).text
}

#[tokio::test(start_paused = true)]
async fn what_is_allowed_is_told_whole_and_as_it_was_written() {
    for mood in [Mood::Quick, Mood::Slow(Duration::from_millis(1_500))] {
        let (world, censor) = world(OnFailure::Block);
        censor.be(mood);
        let a = world.replica("a").await;
        let (id, turn) = world.begin(&a).await;
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events), "{mood:?}: {events:?}");
        let scene = world.scene_of(id, &events);
        assert_eq!((scene.text.as_str(), scene.usage), (PROSE, script::USAGE), "{mood:?}");
        assert_eq!(failovers(&events), []);
        let choices: Vec<_> =
            scene.choices.iter().map(|choice| (&*choice.label, choice.hint.as_deref())).collect();
        assert_eq!(choices, [("Wake the city", Some("loud")), ("Let it sleep", None)]);
        assert_eq!(scene.state["year"], 1204);
        assert!(censor.asked.load(Ordering::SeqCst) > 5, "prompt, windows, choices, patch");
    }
}

#[tokio::test(start_paused = true)]
async fn text_is_held_back_until_its_window_is_judged_and_no_longer() {
    let (world, censor) = world(OnFailure::Block);
    let a = world.replica("a").await;
    let scenario = world.scenario();
    let (id, turn) = (scenario.id, world.turn());
    a.handle.create(scenario, turn).await.unwrap();
    censor.be(Mood::Slow(Duration::from_secs(1)));
    // The first sentence is read after 300 ms and judged a second later.
    pause(1_200).await;
    assert_eq!(text(&world.turn_events(id, turn).await), "");
    pause(250).await;
    assert_eq!(text(&world.turn_events(id, turn).await), "The 𝄞 of the gates rang out.");
    let events = world.end_of(id, turn).await;
    assert_eq!(world.scene_of(id, &events).text, PROSE);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_window_is_the_providers_failure_and_nothing_of_it_is_ever_shown() {
    // In the first window, in the middle, at the end; across the border of two windows.
    for (banned, shown) in [
        ("gates", ""),
        ("Rome", "The 𝄞 of the gates rang out."),
        (
            "lamp",
            "The 𝄞 of the gates rang out. Rome, they said, had never fallen; it had é only slept.",
        ),
        (
            "slept. Night",
            "The 𝄞 of the gates rang out. Rome, they said, had never fallen; it had é only slept.",
        ),
    ] {
        let (world, censor) = world(OnFailure::Allow);
        let a = world.replica("a").await;
        let scenario = world.scenario();
        let (id, turn) = (scenario.id, world.turn());
        a.handle.create(scenario, turn).await.unwrap();
        censor.ban(&[banned]);
        let wake = Arc::new(Wake::default());
        let mut reader = a.handle.attach(OWNER, id, None, 0, &wake).await.unwrap().reader;
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events), "{banned}: {events:?}");
        assert_eq!(failovers(&events), [(STORYTELLER, "content_blocked")], "{banned}");
        let scene = world.scene_of(id, &events);
        let first = scene.authors.iter().find(|author| author.provider == STORYTELLER).unwrap();
        let by_model =
            String::from_utf16(&scene.text.encode_utf16().take(first.off).collect::<Vec<_>>());
        assert_eq!(by_model.unwrap(), shown, "{banned}");
        assert!(!scene.text[..shown.len()].contains(banned));
        // A reader has exactly what is in the log.
        let mut frames = Vec::new();
        while reader.take(usize::MAX, &mut frames) == Taken::Frames {}
        let read: Vec<_> = frames.iter().map(|(_, frame)| frame.decode().unwrap().event).collect();
        assert_eq!(read, events, "{banned}");
        // It speaks against the text, not against who told it.
        let vendor = a.handle.texts().find(NAME).unwrap();
        assert_eq!(vendor.view().totals().failed, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_blocked_is_paid_all_the_same() {
    let (world, censor) = world(OnFailure::Allow);
    let a = world.replica("a").await;
    let scenario = world.scenario();
    let (id, turn) = (scenario.id, world.turn());
    a.handle.create(scenario, turn).await.unwrap();
    censor.ban(&["gates"]);
    world.end_of(id, turn).await;
    let spent = world.ledger.of(crate::domain::budget::Purse::Turn(turn)).spent;
    // Two micro-dollars for a token written, one for a token sent.
    assert!(spent.micros - spent.tokens >= 7, "{spent:?}");
    assert_eq!(world.ledger.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn blocked_choices_and_patches_are_left_out() {
    for (banned, labels, state) in [
        (&["loud"][..], &["Let it sleep"][..], true),
        (&["Wake the city", "Let it sleep"], &[], true),
        (&["asleep"], &["Wake the city", "Let it sleep"], false),
    ] {
        let (world, censor) = world(OnFailure::Allow);
        let a = world.replica("a").await;
        let scenario = world.scenario();
        let (id, turn) = (scenario.id, world.turn());
        a.handle.create(scenario, turn).await.unwrap();
        censor.ban(banned);
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events), "{banned:?}: {events:?}");
        let scene = world.scene_of(id, &events);
        assert_eq!(scene.text, PROSE);
        // Others make the missing ones.
        assert!(scene.choices.len() >= 2, "{banned:?}");
        let told: Vec<_> = scene.choices.iter().map(|choice| choice.label.as_str()).collect();
        assert_eq!(&told[..labels.len()], labels);
        let known = serde_json::to_string(&scene).unwrap();
        assert!(banned.iter().all(|word| !known.contains(word)), "{known}");
        assert_eq!(scene.state.contains_key("year"), state, "{banned:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_verdict_it_is_shown_or_told_by_the_storyteller_as_configured() {
    for mood in [Mood::Hangs, Mood::Down] {
        for on_failure in [OnFailure::Allow, OnFailure::Block] {
            let (world, censor) = world(on_failure);
            let a = world.replica("a").await;
            let scenario = world.scenario();
            let (id, turn) = (scenario.id, world.turn());
            a.handle.create(scenario, turn).await.unwrap();
            censor.be(mood);
            let since = tokio::time::Instant::now();
            let events = world.end_of(id, turn).await;
            assert!(is_done(&events), "{mood:?}: {events:?}");
            assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
            let scene = world.scene_of(id, &events);
            match on_failure {
                OnFailure::Allow => {
                    assert_eq!(scene.text, PROSE, "{mood:?}");
                    assert_eq!(failovers(&events), []);
                }
                OnFailure::Block => {
                    let by = [(STORYTELLER, "moderation_unavailable")];
                    assert_eq!(failovers(&events), by, "{mood:?}");
                    assert_eq!(scene.authors.len(), 1);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_circuit_is_open_no_model_is_paid_for_what_cannot_be_shown() {
    let (world, censor) = world(OnFailure::Block);
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    censor.be(Mood::Down);
    let pool = a.status.pools.iter().find(|pool| pool.name() == "moderation.censor").unwrap();
    for _ in 0..20 {
        let refused = a.command(id, world.say(1)).await.unwrap_err();
        assert_eq!(refused.code, Code::ServiceUnavailable);
    }
    assert_eq!(pool.circuit(), Some(crate::actors::circuit::State::Open));
    let calls = world.script.calls();
    let turn = a.command(id, world.request(Command::Retry { scene: SceneId(1) })).await.unwrap();
    let events = world.end_of(id, turn).await;
    assert_eq!(failovers(&events), [(STORYTELLER, "moderation_unavailable")]);
    assert_eq!(world.script.calls(), calls);
    assert_eq!(world.ledger.open(), 0, "what was reserved for it is given back");
}

#[tokio::test(start_paused = true)]
async fn what_passed_unjudged_and_is_found_blocked_in_the_end_is_retracted() {
    let (world, censor) = world(OnFailure::Allow);
    let a = world.replica("a").await;
    let scenario = world.scenario();
    let (id, turn) = (scenario.id, world.turn());
    a.handle.create(scenario, turn).await.unwrap();
    censor.ban(&["Rome"]);
    censor.be(Mood::Slow(Duration::from_secs(3)));
    world.when(id, turn, |events| text(events) == PROSE).await;
    censor.be(Mood::Quick);
    let events = world.end_of(id, turn).await;
    let [.., Event::TurnRetracted { scene, reason, .. }, Event::TurnFailed { error, .. }] =
        &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(
        (*scene, reason.as_str(), error.as_str()),
        (SceneId(1), "content_blocked", "content_blocked")
    );
    assert!(world.scenes.scene(id, SceneId(1)).is_none(), "nothing is kept of it");
    // It can be told anew.
    censor.ban(&[]);
    let turn = a.command(id, world.request(Command::Retry { scene: SceneId(1) })).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_taken_up_is_judged_with_what_was_shown_before() {
    for dies in [true, false] {
        let (world, censor) = world(OnFailure::Allow);
        let a = world.replica("a").await;
        let scenario = world.scenario();
        let (id, turn) = (scenario.id, world.turn());
        a.handle.create(scenario, turn).await.unwrap();
        world.when(id, turn, |events| text(events).ends_with("slept.")).await;
        let b = world.replica("b").await;
        // Half of it was shown by the first owner.
        censor.ban(&["slept. Night"]);
        match dies {
            true => a.crash(),
            false => a.handle.hand_over().await,
        }
        let events = world.end_of(id, turn).await;
        let scene_text = text(&events);
        assert!(!scene_text.contains("Night came"), "{scene_text}");
        assert_eq!(failovers(&events), [(STORYTELLER, "content_blocked")]);
        drop(b);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_keeps_what_was_shown_and_nothing_that_waits() {
    let (world, censor) = world(OnFailure::Block);
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    world.when(id, turn, |events| !text(events).is_empty()).await;
    censor.be(Mood::Slow(Duration::from_secs(1)));
    pause(700).await;
    let shown = text(&world.turn_events(id, turn).await);
    a.stop(id, turn).await.unwrap();
    let events = world.end_of(id, turn).await;
    let scene = world.scene_of(id, &events);
    assert_eq!((scene.text, scene.finish), (shown, Finish::Stopped));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_is_judged_as_far_as_it_came() {
    let (world, _censor) = world(OnFailure::Block);
    let a = world.replica("a").await;
    world.script.next([Plan::Fail(5, script::Kind::Network)]);
    let (id, turn) = world.begin(&a).await;
    let events = world.end_of(id, turn).await;
    assert_eq!(failovers(&events), [(STORYTELLER, "network")]);
    let scene = world.scene_of(id, &events);
    let five_chunks: String = PROSE.chars().take(80).collect();
    assert!(scene.text.starts_with(five_chunks.trim_end()), "{}", scene.text);
}

#[tokio::test(start_paused = true)]
async fn the_readers_words_are_judged_before_they_are_taken_in() {
    let (world, censor) = world(OnFailure::Block);
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let request = |key: &str, text: &str| Request {
        key: Some(key.into()),
        ..world.request(Command::Say { scene: SceneId(1), text: text.into() })
    };
    censor.ban(&["gate", "Rome"]);
    let before = world.events(id).await.len();
    let blocked = a.command(id, request("k", "Open the gate.")).await.unwrap_err();
    assert_eq!((blocked.code, blocked.details[0].field.as_str()), (Code::ContentBlocked, "text"));
    assert!(blocked.details[0].message.contains("violence"), "{blocked:?}");
    let edit = Command::Edit { scene: SceneId(1), text: "A gate.".into() };
    assert_eq!(a.command(id, world.request(edit)).await.unwrap_err().code, Code::ContentBlocked);
    assert_eq!(world.events(id).await.len(), before, "nothing was taken in");
    let scenario = world.scenario();
    let unborn = scenario.id;
    let blocked = a.handle.create(scenario, world.turn()).await.unwrap_err();
    assert_eq!((blocked.code, blocked.details[0].field.as_str()), (Code::ContentBlocked, "prompt"));
    assert!(a.handle.deps.history.find(unborn).await.unwrap().is_none());

    // What was accepted stays so, whatever the checker says of it later.
    censor.ban(&[]);
    let turn = a.command(id, request("k", "Open the gate.")).await.unwrap();
    world.end_of(id, turn).await;
    censor.be(Mood::Down);
    assert_eq!(a.command(id, request("k", "Open the gate.")).await.unwrap(), turn);
    let again = Scenario { id, ..world.scenario() };
    assert!(a.handle.create(again, world.turn()).await.is_ok());
    let away = a.command(id, world.say(2)).await.unwrap_err();
    assert_eq!(away.code, Code::ServiceUnavailable);
}

#[tokio::test(start_paused = true)]
async fn publishing_waits_for_a_verdict_and_off_is_off() {
    let (world, censor) = world(OnFailure::Allow);
    let a = world.replica("a").await;
    let moderation = a.handle.deps.moderation.clone();
    assert!(moderation.check_public(PROSE).await.is_ok());
    // Across the pieces of a text that is too long for one.
    censor.ban(&["never. Shown"]);
    let long = format!("{}never. Shown {}", "word ".repeat(798), "word ".repeat(800));
    assert_eq!(moderation.check_public(&long).await.unwrap_err().code, Code::ContentBlocked);
    censor.be(Mood::Hangs);
    assert_eq!(moderation.check_public(PROSE).await.unwrap_err().code, Code::ServiceUnavailable);
    assert!(moderation.check_input("title", PROSE).await.is_ok(), "that is lenient");
    assert!(ModerationHandle::default().check_public("anything").await.is_ok());
}
