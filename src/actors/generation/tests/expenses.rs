//! What turns pay: reserved before each call, settled after it, within every cap, whoever dies.

use super::script::{Kind, MAX_OUTPUT, PRICE, Plan, USAGE};
use super::stores::Fault;
use super::*;
use crate::config::budget::WhenExhausted;
use crate::domain::budget::{Amount, Purse, day_of};

fn of_user() -> Purse {
    Purse::User(OWNER, day_of(NOW))
}

/// What one call comes to that the vendor counts.
fn whole_call() -> Amount {
    Amount { tokens: USAGE.input_tokens + USAGE.output_tokens, micros: PRICE.of(USAGE, 0) }
}

fn capped(tokens: u64) -> World {
    let budget = config::Budget { user_tokens: Some(tokens), ..config::Budget::default() };
    World { budget, ..World::new() }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_paid_from_every_purse_with_what_the_vendor_says() {
    let world = World::new();
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    let purses = [Purse::Turn(turn), Purse::Scenario(id), of_user(), Purse::Day(day_of(NOW))];
    pause(350).await;
    for purse in purses {
        let running = world.ledger.of(purse);
        assert!(running.reserved.tokens > MAX_OUTPUT && running.spent == Amount::default());
    }
    world.end_of(id, turn).await;
    for purse in purses {
        let taken = world.ledger.of(purse);
        assert_eq!((taken.spent, taken.reserved), (whole_call(), Amount::default()), "{purse:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_call_costs_what_it_was_sent_and_has_written() {
    for (plan, paid) in [
        (Plan::Fail(4, Kind::Network), true),
        (Plan::Cut(4), true),
        (Plan::Refuse(Kind::Network), false),
    ] {
        let world = World::new();
        let a = world.replica("a").await;
        world.script.next([plan]);
        let (id, turn) = world.begin(&a).await;
        assert!(is_done(&world.end_of(id, turn).await));
        let spent = world.ledger.of(Purse::Turn(turn)).spent;
        // Four chunks of sixteen characters are some sixteen tokens; what was sent is several hundred.
        let written = (spent.micros - spent.tokens.min(spent.micros)) as i64;
        match paid {
            true => assert!((8..=24).contains(&written) && spent.tokens > 300, "{spent:?}"),
            false => assert_eq!(spent, Amount::default(), "nothing was sent"),
        }
        assert_eq!(world.ledger.open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_reserved_whatever_becomes_of_a_turn() {
    for plan in [
        Plan::Whole,
        Plan::Stall(2),
        Plan::Panic(3),
        Plan::Silent,
        Plan::ProseOnly,
        Plan::HangOpen,
        Plan::PanicOpen,
    ] {
        let world = World::new();
        let a = world.replica("a").await;
        world.script.next([plan]);
        let (id, turn) = world.begin(&a).await;
        world.end_of(id, turn).await;
        until("every call is settled", || world.ledger.open() == 0).await;
        assert_eq!(world.ledger.of(of_user()).reserved, Amount::default(), "{plan:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_owners_call_is_settled_by_who_goes_on() {
    let world = World::new();
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let (id, turn) = world.begin(&a).await;
    pause(650).await;
    a.crash();
    assert_eq!(world.ledger.open(), 1, "the dead owner cannot");
    world.end_of(id, turn).await;
    assert_eq!(world.ledger.open(), 0);
    let spent = world.ledger.of(Purse::Turn(turn)).spent;
    let rest = spent.minus(whole_call());
    assert!(rest.tokens > 300, "the interrupted call counts, with what it was sent: {spent:?}");
    assert!(rest.tokens < 300 + MAX_OUTPUT + 600, "and not with all that it might have come to");
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn who_has_used_it_up_is_told_so_and_nothing_is_begun() {
    let world = capped(2_000);
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    let mut scene = 1;
    let refused = loop {
        match a.command(id, world.say(scene)).await {
            Ok(turn) => drop(world.end_of(id, turn).await),
            Err(error) => break error,
        }
        scene += 1;
        assert!(scene < 100, "never used up");
    };
    assert_eq!(refused.code, crate::error::Code::BudgetExhausted);
    assert!(refused.message.ends_with("until 2027-01-16T00:00:00Z"), "{}", refused.message);
    // A first scene costs less: there may be some left for it.
    let mut told = 1;
    let none = loop {
        let scenario = world.scenario();
        let id = scenario.id;
        match a.handle.create(scenario, world.turn()).await {
            Ok(turn) => drop(world.end_of(id, turn).await),
            Err(error) => break error,
        }
        told += 1;
    };
    assert_eq!(none.code, crate::error::Code::BudgetExhausted);
    assert_eq!(world.scenes.scenarios(), told, "no scenario is left behind");
    assert_eq!(a.handle.running_turns(), 0);
    assert!(world.ledger.of(of_user()).all().tokens <= 2_000 + whole_call().tokens);
    // What costs nothing goes on.
    let edit = Command::Edit { scene: SceneId(1), text: "My own words.".into() };
    let turn = a.command(id, world.request(edit)).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}

#[tokio::test(start_paused = true)]
async fn many_turns_at_once_stay_within_the_cap() {
    // Each call is reserved with some 1,100 tokens, and comes to 58.
    let mut world = capped(6_000);
    world.budget.when_exhausted = WhenExhausted::Storyteller;
    let a = world.replica("a").await;
    let mut turns = Vec::new();
    for _ in 0..12 {
        turns.push(world.begin(&a).await);
    }
    pause(450).await;
    let taken = world.ledger.of(of_user()).all();
    assert!(taken.tokens <= 6_000, "{taken:?}");
    let open = world.ledger.open();
    assert!((2..12).contains(&open), "{open}: some were refused");
    for (id, turn) in turns {
        let events = world.end_of(id, turn).await;
        assert!(is_done(&events), "the storyteller tells what nobody pays for");
    }
    assert_eq!(world.script.calls(), open);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_may_go_on_with_the_storyteller() {
    let mut world = capped(10);
    world.budget.when_exhausted = WhenExhausted::Storyteller;
    let a = world.replica("a").await;
    let (id, turn) = world.begin(&a).await;
    let events = world.end_of(id, turn).await;
    assert!(is_done(&events));
    let reason = events.iter().find_map(|event| match event {
        Event::TurnFailover { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    assert_eq!((reason, world.script.calls()), (Some("budget_exhausted"), 0));
}

#[tokio::test(start_paused = true)]
async fn without_its_ledger_nobody_is_asked_who_costs_something() {
    let world = capped(100_000);
    let a = world.replica("a").await;
    let id = world.told(&a).await;
    world.ledger.fault.set(Fault::Down);
    let calls = world.script.calls();
    let refused = a.command(id, world.say(1)).await.unwrap_err();
    assert_eq!(refused.code, crate::error::Code::ServiceUnavailable);
    assert_eq!(world.script.calls(), calls);
    world.ledger.fault.set(Fault::None);
    pause(10_000).await;
    let turn = a.command(id, world.say(1)).await.unwrap();
    assert!(is_done(&world.end_of(id, turn).await));
}
