use super::script::{Kind, NAME, PROSE, Plan, WORKERS};
use super::*;
use crate::actors::circuit::State;

const STORYTELLER: &str = "storyteller";

/// Tells a first scene while the vendor does `plan`.
async fn told_with(world: &World, a: &Replica, plan: Plan) -> (Vec<Event>, Scene) {
    world.script.next([plan]);
    let (id, turn) = world.begin(a).await;
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events), "{plan:?}: {events:?}");
    let scene = world.scene_of(id, &events);
    assert_eq!(scene.finish, Finish::Complete);
    assert!(scene.choices.len() >= 2, "{plan:?}");
    (events, scene)
}

fn failovers(events: &[Event]) -> Vec<(&str, &str, usize, &str)> {
    let said = events.iter().filter_map(|event| match event {
        Event::TurnFailover { from, to, off, reason, .. } => {
            Some((from.as_str(), to.as_str(), *off, reason.as_str()))
        }
        _ => None,
    });
    said.collect()
}

#[tokio::test(start_paused = true)]
async fn the_next_providers_first_words_wait_for_no_more() {
    let mut shown = Vec::new();
    for coalesce in [Duration::ZERO, Duration::from_secs(3)] {
        let world = World::new();
        let a = world.replica_with("a", |config| config.coalesce = coalesce).await;
        // Its only words are shown at once, too.
        world.script.next([Plan::Fail(1, Kind::Network)]);
        let since = tokio::time::Instant::now();
        let (id, turn) = world.begin(&a).await;
        let failover = |event: &Event| matches!(event, Event::TurnFailover { .. });
        let gone_on = |events: &[Event]| {
            let from = events.iter().position(failover).unwrap_or(events.len());
            events[from..].iter().any(|event| matches!(event, Event::TextDelta { .. }))
        };
        world.when(id, turn, gone_on).await;
        shown.push(since.elapsed());
    }
    assert!(shown[1] < shown[0] + Duration::from_millis(200), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_fails_wherever_the_storyteller_goes_on_in_the_same_scene() {
    let chunks = PROSE.chars().count().div_ceil(16);
    for after in 1..chunks {
        // Below what opens the circuit: one replica each.
        let world = World::new();
        let a = world.replica("a").await;
        let (plan, reason) = match after % 4 {
            0 => (Plan::Fail(after, Kind::Network), "network"),
            1 => (Plan::Stall(after), "timeout"),
            2 => (Plan::Cut(after), "protocol"),
            _ => (Plan::Fail(after, Kind::ContentFilter), "content_filter"),
        };
        let (events, scene) = told_with(&world, &a, plan).await;
        let [(from, to, off, why)] = failovers(&events)[..] else { panic!("{events:?}") };
        assert_eq!((from, to, why), (NAME, STORYTELLER, reason), "{plan:?}");
        assert!(off > 0);
        let head = String::from_utf16(&scene.text.encode_utf16().take(off).collect::<Vec<_>>());
        assert!(PROSE.starts_with(&head.unwrap()), "{plan:?}: {}", scene.text);
        let authors: Vec<_> =
            scene.authors.iter().map(|author| (author.provider.as_str(), author.off)).collect();
        assert_eq!(authors, [(NAME, 0), (STORYTELLER, off)], "{plan:?}");
        assert_eq!(scene.authors[1].model, "embedded-1");
    }
}

#[tokio::test(start_paused = true)]
async fn who_wrote_nothing_is_not_named_as_an_author() {
    for (plan, reason) in [
        (Plan::Refuse(Kind::Network), "network"),
        (Plan::Refuse(Kind::ContentFilter), "content_filter"),
        (Plan::HangOpen, "timeout"),
        (Plan::Fail(0, Kind::Network), "network"),
        (Plan::Cut(0), "protocol"),
        (Plan::Silent, "protocol"),
        (Plan::ChoicesOnly, "protocol"),
    ] {
        let world = World::new();
        let a = world.replica("a").await;
        let (events, scene) = told_with(&world, &a, plan).await;
        assert_eq!(failovers(&events), [(NAME, STORYTELLER, 0, reason)], "{plan:?}");
        let authors: Vec<_> = scene.authors.iter().map(|author| &*author.provider).collect();
        assert_eq!(authors, [STORYTELLER], "{plan:?}");
        assert!(!scene.text.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn missing_choices_are_repaired_without_a_word_on_the_text() {
    for plan in [Plan::ProseOnly, Plan::OneChoice] {
        let world = World::new();
        let a = world.replica("a").await;
        let (events, scene) = told_with(&world, &a, plan).await;
        assert_eq!(failovers(&events), [], "{plan:?}");
        assert_eq!(scene.text, PROSE);
        assert_eq!(scene.authors.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn failures_open_the_circuit_which_then_costs_no_wait_and_closes_after_one_probe() {
    let world = World::new();
    let a = world.replica("a").await;
    let vendor = a.handle.texts().find(NAME).unwrap().clone();
    world.script.always(Some(Plan::Fail(1, Kind::Network)));
    for _ in 0..6 {
        world.begin(&a).await;
    }
    until("streams that break off open the circuit", || vendor.circuit() == Some(State::Open))
        .await;
    let calls = world.script.calls();
    let (id, turn) = world.begin(&a).await;
    let events = world.turn_events(id, turn).await;
    assert!(matches!(&events[0], Event::TurnStarted { provider, .. } if provider == STORYTELLER));
    assert_eq!(world.script.calls(), calls);
    world.script.always(None);
    until("the circuit closes", || vendor.circuit() == Some(State::Closed)).await;
    assert_eq!(world.script.probes.load(Ordering::SeqCst), 1);
    world.end_of(id, turn).await;
    let turn = a.command(id, world.say(1)).await.unwrap();
    let scene = world.scene_of(id, &world.end_of(id, turn).await);
    assert_eq!((scene.text.as_str(), scene.authors.len()), (PROSE, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_followed_at_once_however_busy_the_failed_provider_is() {
    let world = World::new();
    let a = world.replica("a").await;
    world.script.next([Plan::Fail(2, Kind::Network)]);
    let (id, turn) = world.begin(&a).await;
    // All its workers now wait for it, and nobody can take the report.
    world.script.always(Some(Plan::HangOpen));
    for _ in 0..WORKERS {
        world.begin(&a).await;
    }
    let since = tokio::time::Instant::now();
    world.when(id, turn, |events| !failovers(events).is_empty()).await;
    assert!(since.elapsed() < Duration::from_secs(1), "waited {:?}", since.elapsed());
    assert!(is_done(&world.end_of(id, turn).await));
}
