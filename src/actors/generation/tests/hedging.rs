use async_trait::async_trait;

use super::script::{Kind, MAX_OUTPUT, NAME, PRICE, PROSE, Plan, USAGE};
use super::*;
use crate::actors::circuit::State;
use crate::domain::budget::{Amount, Purse};
use crate::providers::text::{Price, ProviderError, StoryRequest, TextProvider, TextStream};

/// Silence after which the rival is asked, too.
pub const AFTER: Duration = Duration::from_secs(3);
const RIVAL: &str = "rival";

/// Another vendor of the same ways.
#[derive(Default)]
pub struct Rival(Script);

#[async_trait]
impl TextProvider for Rival {
    fn name(&self) -> &str {
        RIVAL
    }

    fn model(&self) -> &str {
        "model-2"
    }

    fn price(&self) -> Price {
        PRICE
    }

    fn max_output_tokens(&self) -> Option<u64> {
        Some(MAX_OUTPUT)
    }

    async fn open(&self, request: StoryRequest) -> Result<TextStream, ProviderError> {
        self.0.open(request).await
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        self.0.probe().await
    }
}

fn world(budget: f64) -> (World, Arc<Rival>) {
    let rival = Arc::new(Rival::default());
    (World { rival: Some((Arc::clone(&rival), budget)), ..World::new() }, rival)
}

/// Who wrote the scene, each with the reason why it took over.
fn authors(events: &[Event]) -> Vec<(&str, &str)> {
    let said = events.iter().filter_map(|event| match event {
        Event::TurnStarted { provider, .. } => Some((provider.as_str(), "")),
        Event::TurnFailover { to, reason, .. } => Some((to.as_str(), reason.as_str())),
        _ => None,
    });
    said.collect()
}

#[tokio::test(start_paused = true)]
async fn who_speaks_first_tells_the_scene_and_the_other_call_is_given_up() {
    let (world, rival) = world(0.05);
    let a = world.replica("a").await;
    let vendor = a.handle.texts().find(NAME).unwrap().clone();
    world.script.next([Plan::HangOpen]);
    let since = tokio::time::Instant::now();
    let (id, turn) = world.begin(&a).await;
    until("the rival is asked", || rival.0.calls() == 1).await;
    assert!(since.elapsed() >= AFTER);
    until("the other call is given up", || vendor.view().admitted() == 0).await;
    assert!(since.elapsed() < AFTER + Duration::from_secs(1), "{:?}", since.elapsed());
    let events = world.end_of(id, turn).await;
    assert_eq!(authors(&events), [(NAME, ""), (RIVAL, "slow")]);
    let scene = world.scene_of(id, &events);
    assert_eq!((scene.text.as_str(), scene.authors.len()), (PROSE, 1));
    assert_eq!(scene.authors[0].model, "model-2");
    assert_eq!((vendor.circuit(), vendor.view().totals().failed), (Some(State::Closed), 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_quick_enough_or_refuses_at_once_has_no_rival() {
    let (world, rival) = world(0.05);
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    assert_eq!(rival.0.calls(), 0);
    // That is a fail-over, at once.
    world.script.next([Plan::Refuse(Kind::Network)]);
    let since = tokio::time::Instant::now();
    let turn = a.command(id, world.say(1)).await.unwrap();
    let events = world.end_of(id, turn).await;
    assert_eq!(authors(&events), [(NAME, ""), (RIVAL, "network")]);
    assert!(since.elapsed() < AFTER);
}

#[tokio::test(start_paused = true)]
async fn when_both_fail_neither_is_asked_again() {
    for (rivals, why) in [(Plan::Refuse(Kind::Network), "network"), (Plan::HangOpen, "timeout")] {
        let (world, rival) = world(0.05);
        let a = world.replica("a").await;
        world.script.next([Plan::HangOpen]);
        rival.0.next([rivals]);
        let (id, turn) = world.begin(&a).await;
        let events = world.end_of(id, turn).await;
        assert_eq!(authors(&events), [(NAME, ""), ("storyteller", why)], "{rivals:?}");
        assert_eq!((world.script.calls(), rival.0.calls()), (1, 1), "{rivals:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_loses_is_paid_for_what_it_was_sent_and_who_refuses_is_not() {
    let spent_if = async |first: Plan, second: Plan| {
        let (world, rival) = world(0.05);
        let a = world.replica("a").await;
        world.script.next([first]);
        rival.0.next([second]);
        let (id, turn) = world.begin(&a).await;
        assert!(is_done(&world.end_of(id, turn).await));
        until("both calls are settled", || world.ledger.open() == 0).await;
        assert_eq!((world.script.calls(), rival.0.calls()), (1, 1));
        world.ledger.of(Purse::Turn(turn)).spent
    };
    let whole =
        Amount { tokens: USAGE.input_tokens + USAGE.output_tokens, micros: PRICE.of(USAGE, 0) };
    // Each is asked to, the rival after three seconds; late ones answer in the order of their names.
    for (name, first, second, loser_pays) in [
        ("the first one never answers", Plan::HangOpen, Plan::Whole, true),
        (
            "the first one is late, the rival never answers",
            Plan::OpenLate(4_000),
            Plan::HangOpen,
            true,
        ),
        ("the first one refuses late", Plan::RefuseLate(4_000), Plan::OpenLate(2_000), false),
        ("the rival refuses", Plan::OpenLate(4_000), Plan::Refuse(Kind::Network), false),
    ] {
        let spent = spent_if(first, second).await;
        let lost = spent.minus(whole);
        assert!(spent.tokens >= whole.tokens, "{name}: {spent:?}");
        assert_eq!(lost.tokens > 300, loser_pays, "{name}: {spent:?}");
        assert!(loser_pays || lost == Amount::default(), "{name}: {spent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_it_and_without_one_it_is_off() {
    for (budget, hedged) in [(0.0, 0), (0.001, 10)] {
        let (world, _) = world(budget);
        let a = world.replica("a").await;
        let mut slow = 0;
        for _ in 0..12 {
            world.script.next([Plan::HangOpen]);
            let (id, turn) = world.begin(&a).await;
            let events = world.end_of(id, turn).await;
            slow += authors(&events).iter().filter(|(_, why)| *why == "slow").count();
        }
        assert_eq!(slow, hedged, "budget {budget}");
    }
}
