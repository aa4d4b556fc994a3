//! The promise under fire: replicas behind a balancer, readers and players through it, and everything that can break
//! breaking, in an order drawn from a seed. `make chaos SEEDS=20` runs more than `make test` does, `SEED=7` that one.

mod fault;
mod kills;
mod reader;
mod servers;
mod verdict;
mod world;
mod writer;

use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::fault::{Strike, schedule};
use self::reader::{Address, Reader, Standing, Told};
use self::world::World;
use self::writer::Caller;

const REPLICAS: usize = 3;
const SCENARIOS: usize = 20;
const READERS: usize = 2;

const LEASE: Duration = Duration::from_secs(2);
const ENV: [(&str, &str); 3] = [
    ("WHATIF__SESSIONS__LEASE_TTL", "2s"),
    ("WHATIF__SESSIONS__LEASE_RENEW", "600ms"),
    ("WHATIF__PROVIDERS__STORYTELLER__WORDS_PER_SECOND", "40"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_reads_the_same_whatever_breaks() {
    for seed in seeds() {
        run(seed).await;
    }
}

/// By default one, the first.
fn seeds() -> Vec<u64> {
    let number = |name| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
        Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
    };
    match number("WHATIF_CHAOS_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("WHATIF_CHAOS_SEEDS").unwrap_or(1)).collect(),
    }
}

/// A scenario with whoever is at it.
struct Stage {
    at: Address,
    prompt: String,
    readers: Vec<(watch::Receiver<Standing>, JoinHandle<Told>)>,
    player: JoinHandle<usize>,
    /// Turns that were played, once the player has gone home.
    turns: Option<usize>,
}

impl Stage {
    async fn played(&mut self) -> usize {
        match self.turns {
            Some(turns) => turns,
            None => *self.turns.insert(passed_on((&mut self.player).await)),
        }
    }
}

async fn run(seed: u64) {
    let started = Instant::now();
    let strikes = schedule(seed, REPLICAS, LEASE, 0);
    let mut world = World::start(REPLICAS, &ENV).await;
    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    let mut stages = raise(&world, seed, &stop, &end).await;
    let mut done = 0;
    let outcome = AssertUnwindSafe(async {
        for strike in &strikes {
            sleep(strike.after).await;
            strike.fault.strike(&mut world).await;
            done += 1;
            world.ready().await;
            unharmed(&mut stages).await;
        }
        stop.cancel();
        let told = settle(&mut stages, &end).await;
        verdict::holds(&world, &told, &strikes).await
    })
    .catch_unwind()
    .await;
    match outcome {
        Ok(summary) => println!("seed {seed}: {summary}, {:?}", started.elapsed()),
        Err(reason) => {
            eprintln!("{}", report(seed, &strikes, done, &stages, &world));
            std::panic::resume_unwind(reason);
        }
    }
}

/// Begins the scenarios, half of them told by the model, and seats their readers.
async fn raise(
    world: &World,
    seed: u64,
    stop: &CancellationToken,
    end: &CancellationToken,
) -> Vec<Stage> {
    let token = world.register().await;
    let base = world.base();
    let caller = Caller::new(&base, &token);
    let begun = (0..SCENARIOS).map(|number| {
        let (caller, base, token) = (caller.clone(), base.clone(), token.clone());
        async move {
            let prompt = format!("What if river {number}-{seed} rose?");
            let provider = if number % 2 == 0 { "storyteller" } else { "openai" };
            let scenario = caller.begin(&prompt, provider, seed + number as u64).await;
            let at = Address { base, token, scenario };
            let readers: Vec<_> =
                (0..READERS).map(|_| Reader::start(at.clone(), end.clone())).collect();
            let watched = readers[0].0.clone();
            let player = tokio::spawn(writer::play(caller, at.clone(), watched, stop.clone()));
            Stage { at, prompt, readers, player, turns: None }
        }
    });
    join_all(begun).await
}

/// Fails if anybody has failed so far.
async fn unharmed(stages: &mut [Stage]) {
    for stage in stages {
        for (_, reader) in &mut stage.readers {
            if reader.is_finished() {
                passed_on(reader.await);
            }
        }
        if stage.player.is_finished() {
            stage.played().await;
        }
    }
}

/// What a task came to; its panic becomes ours.
fn passed_on<T>(result: Result<T, tokio::task::JoinError>) -> T {
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Lets turns end and readers catch up; returns what was told, by scenario.
async fn settle(stages: &mut [Stage], end: &CancellationToken) -> Vec<verdict::Case> {
    let mut cases = Vec::new();
    for stage in &mut *stages {
        let turns = stage.played().await;
        verdict::caught_up(&stage.at, &mut stage.readers).await;
        cases.push((stage.at.clone(), stage.prompt.clone(), turns));
    }
    end.cancel();
    let mut told = Vec::new();
    for (stage, (at, prompt, turns)) in stages.iter_mut().zip(cases) {
        let mut readers = Vec::new();
        for (_, reader) in &mut stage.readers {
            readers.push(passed_on(reader.await));
        }
        told.push(verdict::Case { at, prompt, turns, readers });
    }
    told
}

/// What one needs to have the same again, and to see where it went wrong.
fn report(seed: u64, strikes: &[Strike], done: usize, stages: &[Stage], world: &World) -> String {
    let mut text =
        format!("chaos: seed {seed} failed (again: make chaos SEED={seed})\n  faults:\n");
    for (number, strike) in strikes.iter().enumerate() {
        let mark = if number < done {
            "done"
        } else if number == done {
            "now "
        } else {
            "    "
        };
        let _ = writeln!(text, "    {mark} after {:>5?} {}", strike.after, strike.fault);
    }
    text.push_str("  readers:\n");
    for stage in stages {
        for (standing, _) in &stage.readers {
            let standing = standing.borrow();
            let heard = standing.heard.map(|heard| heard.elapsed());
            let _ = writeln!(
                text,
                "    {} ({}): {}:{}, {} turns over, now {:?}, {} connections, {} snapshots, heard {heard:?} ago",
                stage.at.scenario,
                stage.prompt,
                standing.epoch,
                standing.seq,
                standing.turns,
                standing.turn,
                standing.connections,
                standing.snapshots,
            );
        }
    }
    let _ = write!(text, "  complaints:\n{}", world.complaints(40));
    text
}
