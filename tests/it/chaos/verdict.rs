//! What has to be true when the dust has settled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::fault::Strike;
use super::reader::{Address, Reader, Standing, Told};
use super::world::World;
use super::writer::{Caller, PATIENCE};

/// Longest until nobody holds a lease any more: sessions that rest give theirs up within seconds.
const RESTED: Duration = Duration::from_secs(30);

/// A scenario and what its readers were told.
pub struct Case {
    pub at: Address,
    pub prompt: String,
    /// Asked for by its player.
    pub turns: usize,
    pub readers: Vec<Told>,
}

#[derive(Default)]
pub struct Summary {
    turns: usize,
    taken_up: usize,
    calls: usize,
    /// Calls that the model was asked once more, since they broke off before their first word.
    again: usize,
    merged: usize,
    keys: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { turns, taken_up, calls, again, merged, keys } = self;
        write!(
            f,
            "{turns} turns, {taken_up} times taken up, {calls} calls of the model, {again} of them once more, {merged} merged frames, {keys} keys left"
        )
    }
}

/// Waits until the readers of a scenario stand where a new one does that has read everything.
pub async fn caught_up(
    at: &Address,
    readers: &mut [(watch::Receiver<Standing>, JoinHandle<Told>)],
) {
    let caller = Caller::new(&at.base, &at.token);
    let scenario = caller.get(&format!("/scenarios/{}", at.scenario)).await;
    if scenario["scene_count"] == 0 {
        // Its first turn was lost with its log; there is nothing to read.
        return;
    }
    let end = CancellationToken::new();
    let (mut fresh, reading) = Reader::start(at.clone(), end.clone());
    let caught_up = timeout(PATIENCE, async {
        // The newest turn is over, so nothing comes any more.
        loop {
            let place = |standing: &Standing| (standing.epoch.clone(), standing.seq);
            let head = place(&fresh.borrow());
            let over = fresh.borrow().turn.as_ref().is_none_or(|(_, over)| *over);
            if head.1 > 0
                && over
                && readers.iter().all(|(reader, _)| place(&reader.borrow()) == head)
            {
                break;
            }
            let _ = timeout(Duration::from_millis(100), fresh.changed()).await;
        }
    });
    let in_time = caught_up.await.is_ok();
    let head = fresh.borrow().clone();
    end.cancel();
    let told = match reading.await {
        Ok(told) => told,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    assert!(in_time, "readers of {} did not get to {head:?} within {PATIENCE:?}", at.scenario);
    told.story.agrees_with_tree(&caller.get(&format!("/scenarios/{}/tree", at.scenario)).await);
}

/// Compares everything that was told with what is stored, counts the bills, and looks for what was left behind.
pub async fn holds(world: &World, cases: &[Case], strikes: &[Strike]) -> Summary {
    let lost_logs = strikes.iter().any(|strike| strike.fault.loses_logs());
    let mut summary = Summary::default();
    let taken_up = taken_up(world);
    for case in cases {
        let caller = Caller::new(&case.at.base, &case.at.token);
        let tree = caller.get(&format!("/scenarios/{}/tree", case.at.scenario)).await;
        for told in &case.readers {
            assert!(
                lost_logs || told.past.is_empty(),
                "{}: a snapshot, and no log was lost",
                case.prompt
            );
            let failed = told
                .story
                .turns
                .iter()
                .find(|turn| turn.end.as_ref().is_none_or(|end| end["type"] != "turn.done"));
            assert!(
                failed.is_none(),
                "{}: not done: {failed:?}\n{}",
                case.prompt,
                world.said_of(&case.at.scenario).join("\n")
            );
            told.story.agrees_with_tree(&tree);
            finished_before(told, &tree);
            summary.merged += told.story.merged;
        }
        let up = taken_up.get(&case.at.scenario).copied().unwrap_or(0);
        let calls = world.calls(&case.prompt).await;
        // A call before whose first word the wire broke is made again, word for word.
        let again = calls.len().saturating_sub(case.turns + up);
        let times: Vec<_> = calls.iter().map(|call| &call["timestamp"]).collect();
        assert!(
            again <= repeated(&calls),
            "{}: {} calls for {} turns, {up} times taken up, {} asked the same as another: {times:?}\n{}",
            case.prompt,
            calls.len(),
            case.turns,
            repeated(&calls),
            world.said_of(&case.at.scenario).join("\n")
        );
        summary.turns += case.turns;
        summary.taken_up += up;
        summary.calls += calls.len();
        summary.again += again;
    }
    let tries = said(world, "trying again");
    assert!(
        summary.again <= tries,
        "{} calls were made again, {tries} of them known",
        summary.again
    );
    summary.keys = left_behind(world).await;
    summary
}

/// That scenes which were told to their end in a log that was lost since are stored as they were told.
fn finished_before(told: &Told, tree: &Value) {
    let scenes = tree["items"].as_array().unwrap();
    for turn in told.past.iter().flat_map(|story| &story.turns) {
        if turn.end.as_ref().is_some_and(|end| end["type"] == "turn.done") {
            let scene = scenes.iter().find(|scene| scene["id"] == turn.scene.as_str());
            turn.agrees_with(scene.unwrap_or_else(|| panic!("told and not stored: {turn:?}")));
        }
    }
}

/// Calls that ask exactly what another one did.
fn repeated(calls: &[Value]) -> usize {
    let asked: BTreeSet<_> = calls.iter().map(|call| call["body"].to_string()).collect();
    calls.len() - asked.len()
}

/// How often the replicas said so.
fn said(world: &World, message: &str) -> usize {
    world.logged().iter().filter(|(_, line)| line["message"] == message).count()
}

/// How often a turn of each scenario was taken up, according to those that did; one that is carried over into a new log
/// is taken up there.
fn taken_up(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (_, line) in world.logged() {
        if line["message"] == "turn taken up" {
            let scenario = line["scenario"].as_str().unwrap().to_owned();
            *counts.entry(scenario).or_default() += 1;
        }
    }
    counts
}

/// That nobody holds a lease, and nothing in Redis stays for ever; returns how many keys there are.
async fn left_behind(world: &World) -> usize {
    let mut redis = world.redis.connection();
    let held = async {
        loop {
            let holders = holders(&mut redis);
            if holders.is_empty() {
                break;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    if timeout(RESTED, held).await.is_err() {
        panic!("leases are still held: {:?}", holders(&mut redis));
    }
    let keys = keys(&mut redis);
    let eternal: Vec<_> = keys
        .iter()
        .filter(|key| redis::cmd("PTTL").arg(key).query::<i64>(&mut redis).unwrap() == -1)
        .collect();
    assert!(eternal.is_empty(), "keys without a time to live: {eternal:?}");
    keys.len()
}

fn keys(redis: &mut redis::Connection) -> Vec<String> {
    redis::cmd("KEYS").arg("*").query(redis).unwrap()
}

/// Logs whose lease has a holder and has not run out.
fn holders(redis: &mut redis::Connection) -> Vec<(String, String)> {
    let (seconds, micros): (f64, f64) = redis::cmd("TIME").query(redis).unwrap();
    let now = seconds * 1_000.0 + micros / 1_000.0;
    let mut holders = Vec::new();
    for key in keys(redis) {
        let kind: String = redis::cmd("TYPE").arg(&key).query(redis).unwrap();
        if kind != "hash" {
            continue;
        }
        let (holder, end): (Option<String>, Option<f64>) =
            redis::cmd("HMGET").arg(&key).arg("holder").arg("lease_end").query(redis).unwrap();
        if let (Some(holder), Some(end)) = (holder, end)
            && end > now
        {
            holders.push((key, holder));
        }
    }
    holders
}
