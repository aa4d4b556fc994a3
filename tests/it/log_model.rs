//! The log's rules, checked in every order of events that can happen, within bounds.
//!
//! Two or three replicas claim the lease of one scenario, write, lose their leases without noticing, forget everything,
//! leave, and repeat what was not answered; requests arrive late or twice, answers get lost; leases run out; the store
//! comes back empty or goes on as a copy that lags. `store.rs` states what [`whatif::storage::log::LogStore`] promises,
//! `world.rs` what `LogWriter`, the lease's keeper and a loading session do with it, `properties.rs` what has to follow:
//!
//! - a number of an epoch has one event, for every reader at every time;
//! - nothing is shown that was not stored before;
//! - an acknowledged event stays as it is within its epoch;
//! - who is fenced off, or has given its lease up, adds nothing;
//! - numbers have no gaps, and a frame says where it is;
//! - a turn counts as open if and only if its events say so;
//! - an open turn can always be taken up: no longer than a lease stands in the way.
//!
//! [`every_rule_is_needed`] leaves one rule out after the other and names what breaks: that is how these checks are
//! known to be able to fail. Two of its rows are no rules of a store in this process, which dies with its owners, but
//! are for a store that outlives them: fences must not begin anew when it comes back empty, and when it fails over to a
//! copy that lags, its logs are lost, however complete they look.
//!
//! One thing does not hold, and is known: a checkpoint without an event can be put back by a late repetition of the one
//! before it, if both are by the same owner and no event came between. Both then name the same open turn.
//!
//! The second half takes a real store beside the model: every step in a small world, long random walks in a large one.
//! There too each rule of the store was left out of the model, and the two fell out with each other.

mod properties;
mod real;
mod store;
mod world;

use std::collections::{BTreeSet, HashSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};
use stateright::{Checker, HasDiscoveries, Model, Path};
use whatif::storage::embedded::{DiskLog, MemoryLog};
use whatif::storage::log::LogStore;

use self::properties::*;
use self::real::Beside;
use self::store::{FailOver, Rules};
use self::world::{Action, Bounds, State, World};

const BOUNDS: Bounds = Bounds {
    replicas: 2,
    claims: 2,
    head: 2,
    tries: 2,
    in_flight: 2,
    losses: 0,
    failovers: 0,
    notes: false,
};

#[test]
fn the_rules_hold_whatever_happens_in_whichever_order() {
    for bounds in [
        Bounds { claims: 3, ..BOUNDS },
        Bounds { replicas: 3, ..BOUNDS },
        // Fail-over is no other case: the log counts as lost.
        Bounds { losses: 1, ..BOUNDS },
    ] {
        let world = World { rules: Rules::REAL, bounds };
        world.checker().threads(2).spawn_bfs().join().assert_properties();
    }
}

/// The shortest way to break `property`, if there is one.
fn counterexample(rules: Rules, bounds: Bounds, property: &'static str) -> Option<Vec<Action>> {
    let found = HasDiscoveries::AllOf(BTreeSet::from([property]));
    let checker = World { rules, bounds }.checker().finish_when(found).spawn_bfs().join();
    checker.discovery(property).map(Path::into_actions)
}

#[test]
fn every_rule_is_needed() {
    let real = Rules::REAL;
    let losing = Bounds { losses: 1, ..BOUNDS };
    let failing = Bounds { failovers: 1, ..BOUNDS };
    let as_it_was = Rules { failover: FailOver::AsItWas, ..real };
    for (without, rules, bounds, broken) in [
        ("fences", Rules { fence: false, ..real }, BOUNDS, FENCED_IS_POWERLESS),
        ("fences", Rules { fence: false, ..real }, BOUNDS, ONE_AUTHOR),
        ("numbers", Rules { number: false, ..real }, BOUNDS, GAPLESS),
        // The number of another owner's event looks like that of one's own.
        ("fence first", Rules { fence_before_number: false, ..real }, BOUNDS, SHOWN_IS_STORED),
        ("atomicity", Rules { whole_or_nothing: false, ..real }, BOUNDS, CHECKPOINT_FITS),
        // What an owner sent before it was restarted would count as sent after.
        ("a fence per claim", Rules { every_claim_raises: false, ..real }, BOUNDS, ONE_AUTHOR),
        ("an end", Rules { release_ends: false, ..real }, BOUNDS, FENCED_IS_POWERLESS),
        ("orphans left", Rules { released_is_orphan: false, ..real }, BOUNDS, TAKEN_UP),
        ("log first", Rules { log_first: false, ..real }, BOUNDS, SHOWN_IS_STORED),
        ("rising", Rules { fences_survive_loss: false, ..real }, losing, FENCED_IS_POWERLESS),
        ("rising", Rules { fences_survive_loss: false, ..real }, losing, GAPLESS),
        ("a new epoch", Rules { loss_changes_epoch: false, ..real }, losing, ACKNOWLEDGED_STAYS),
        ("loss at fail-over", as_it_was, failing, ACKNOWLEDGED_STAYS),
        ("loss at fail-over", as_it_was, failing, ONE_AUTHOR),
        (
            "comparing heads",
            Rules { retry_compares_heads: false, ..as_it_was },
            Bounds { claims: 1, ..failing },
            SHOWN_IS_STORED,
        ),
        // No rule, but the known limit.
        ("events", real, Bounds { notes: true, claims: 1, head: 1, ..BOUNDS }, FORWARD),
    ] {
        assert!(counterexample(rules, bounds, broken).is_some(), "without {without}: {broken}");
    }
    // With it nobody takes a shortened log for its own success, even where the store breaks its word.
    let bounds = Bounds { claims: 1, ..failing };
    assert_eq!(counterexample(as_it_was, bounds, SHOWN_IS_STORED), None);
}

/// A large world to walk through at random.
const WIDE: Bounds = Bounds {
    replicas: 3,
    claims: 12,
    head: 20,
    tries: 3,
    in_flight: 4,
    losses: 2,
    failovers: 0,
    notes: true,
};

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Takes every step that the model can take, each after the shortest way to it.
#[test]
fn the_memory_log_takes_every_step_as_the_model_does() {
    let world = World { rules: Rules::REAL, bounds: Bounds { head: 1, losses: 1, ..BOUNDS } };
    let store = MemoryLog::new();
    let mut known: HashSet<State> = world.init_states().into_iter().collect();
    let mut ways: VecDeque<Vec<(Action, State)>> = VecDeque::from([Vec::new()]);
    let begin = world.init_states().remove(0);
    paused().block_on(async {
        while let Some(way) = ways.pop_front() {
            let last = way.last().map_or(&begin, |(_, state)| state);
            for (action, next) in world.next_steps(last) {
                let mut real = Beside::new(&store);
                let mut before = &begin;
                for (action, after) in &way {
                    real.step(&world, before, *action, after).await;
                    before = after;
                }
                real.step(&world, before, action, &next).await;
                real.compare(&world, &next).await;
                real.done(&next).await;
                if known.insert(next.clone()) {
                    ways.push_back(way.iter().cloned().chain([(action, next)]).collect());
                }
            }
        }
    });
}

/// Walks at random, always comparing.
fn walks(store: &dyn LogStore, runtime: &tokio::runtime::Runtime, cases: u32) {
    let world = World { rules: Rules::REAL, bounds: WIDE };
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let walk = |choices: Vec<u16>| {
        runtime.block_on(async {
            let mut real = Beside::new(store);
            let mut state = world.init_states().remove(0);
            for choice in choices {
                let mut steps = world.next_steps(&state);
                // Seldom disturbed, or nobody would get far.
                if choice % 8 > 0 && steps.iter().any(|(action, _)| action.is_writing()) {
                    steps.retain(|(action, _)| action.is_writing());
                }
                let Some(index) = usize::from(choice / 8).checked_rem(steps.len()) else { break };
                let (action, next) = steps.swap_remove(index);
                real.step(&world, &state, action, &next).await;
                real.compare(&world, &next).await;
                state = next;
            }
            real.done(&state).await;
        });
        Ok(())
    };
    TestRunner::new(config).run(&vec(any::<u16>(), 1..120), walk).unwrap();
}

#[test]
fn the_memory_log_walks_with_the_model() {
    walks(&MemoryLog::new(), &paused(), 1_024);
}

#[test]
fn the_disk_log_walks_with_the_model() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = paused();
    let store = runtime.block_on(async { DiskLog::open(dir.path()).unwrap() });
    walks(&store, &runtime, 64);
}
