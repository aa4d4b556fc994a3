//! The contract of the event logs, on every back end, and what the durable one promises beyond it.

mod contract;
mod disk;
mod on_redis;
mod redis_faults;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use whatif::domain::event::{Event, Frame};
use whatif::domain::ids::{ScenarioId, TurnId};
use whatif::storage::embedded::{DiskLog, MemoryLog};
use whatif::storage::log::{Batch, Claim, Extent, Lease, LogError, LogPage, LogStore, Origin};

/// Lets time pass for the store: the paused clock, or a real wait for a store with its own.
pub type Advance = fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Long enough for a busy machine to do a few things within half of it.
const TTL: Duration = Duration::from_secs(3);
const SHORT: Duration = Duration::from_millis(500);

fn advance(by: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(tokio::time::advance(by))
}

fn scenario() -> ScenarioId {
    ScenarioId::new(Timestamp::UNIX_EPOCH)
}

/// The event `seq` of `scenario`, recognisable when read back.
fn frame(scenario: ScenarioId, seq: u64) -> Frame {
    let turn = TurnId(scenario.0);
    let text = "and so it went on ".repeat(seq as usize % 5);
    Frame::encode(scenario, "e", seq, &Event::TextDelta { turn, off: seq as usize, text })
}

fn frames(scenario: ScenarioId, seqs: std::ops::RangeInclusive<u64>) -> Vec<(u64, Frame)> {
    seqs.map(|seq| (seq, frame(scenario, seq))).collect()
}

fn batch(scenario: ScenarioId, seqs: std::ops::RangeInclusive<u64>) -> Batch {
    let first_seq = *seqs.start();
    let frames = seqs.map(|seq| frame(scenario, seq)).collect();
    Batch { first_seq, frames, ..Batch::default() }
}

async fn granted(store: &dyn LogStore, scenario: ScenarioId, holder: &str) -> Lease {
    granted_from(store, scenario, holder, Origin::New).await
}

async fn granted_from(
    store: &dyn LogStore,
    scenario: ScenarioId,
    holder: &str,
    origin: Origin,
) -> Lease {
    match store.claim(scenario, holder, TTL, origin).await.unwrap() {
        Claim::Granted(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn page(store: &dyn LogStore, scenario: ScenarioId, after: u64) -> LogPage {
    store.read(scenario, after, usize::MAX).await.unwrap().expect("there is a log")
}

fn assert_fenced<T: std::fmt::Debug>(result: Result<T, LogError>) {
    assert!(matches!(result, Err(LogError::Fenced | LogError::Gone)), "{result:?}");
}

fn assert_out_of_sequence(result: Result<(), LogError>, expected: u64) {
    match result {
        Err(LogError::OutOfSequence { head }) => assert_eq!(head, expected),
        other => panic!("{other:?}"),
    }
}

fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, LogError>) -> String {
    match result {
        Err(LogError::Unavailable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_the_contract() {
    contract::contract(Arc::new(MemoryLog::new()), advance).await;
}

#[tokio::test(start_paused = true)]
async fn replicas_in_one_process_hear_of_each_other() {
    let store: Arc<dyn LogStore> = Arc::new(MemoryLog::shared());
    contract::contract(Arc::clone(&store), advance).await;
    contract::followers_hear_of_changes(&*store, &*store).await;
    contract::handed_over_turns_are_told(&*store, &*store).await;
    let s = scenario();
    assert!(MemoryLog::new().follow(s).is_none(), "nobody else can append to it");
}

#[tokio::test(start_paused = true)]
async fn disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract::contract(Arc::new(DiskLog::open(dir.path()).unwrap()), advance).await;
}

/// The paused clock wants one thread; races want several.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn races_on_many_threads() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn LogStore>; 2] =
        [Arc::new(MemoryLog::new()), Arc::new(DiskLog::open(dir.path()).unwrap())];
    for store in stores {
        contract::one_of_many_claimants_wins(&store).await;
        contract::readers_see_gapless_prefixes(&store).await;
    }
}
