//! What the embedded storyteller costs: scenes of whole stories, on one core.
//!
//! `cargo bench --bench storyteller` plays stories of twelve turns from prompts of every kind, each scene from the state
//! object that the scene before it left, as a session does. It prints scenes per second of CPU, the spread of single
//! scenes, and what the first story of each pack pays for reading it. docs/BENCHMARKS.md has the figures.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use whatif::domain::patch::{self, Object};
use whatif::domain::scenario::{Length, Via};
use whatif::storyteller::{Choice, Input, compose};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PROMPTS: [&str; 9] = [
    "What if Rome never fell?",
    "What if the plague never came in 1348?",
    "What if the prophet never spoke?",
    "What if the steam engine was invented in 1300?",
    "What if the war was won in 1918?",
    "What if all bees vanished tonight?",
    "What if the rocket never landed?",
    "What if I had never met my wife?",
    "What if nobody ever slept?",
];
const TURNS: usize = 12;
/// What the kernel counts CPU time in.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Parser)]
#[command(name = "storyteller", about = "What the embedded storyteller costs")]
struct Cli {
    /// Stories in a round.
    #[arg(long, default_value_t = 5_000)]
    stories: u64,
    /// Rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    ensure!(cli.stories > 0 && cli.rounds > 0, "nothing to measure");
    println!("| first scene of a prompt | ms |\n|---|---|");
    for prompt in PROMPTS {
        let begun = Instant::now();
        story(prompt, 0, 1, |_| {});
        println!("| {prompt} | {:.1} |", begun.elapsed().as_secs_f64() * 1_000.0);
    }
    let mut rates = Vec::new();
    let mut scenes = Vec::new();
    for round in 0..cli.rounds {
        let begun = cpu_seconds()?;
        for seed in 0..cli.stories {
            let prompt = PROMPTS[(seed % PROMPTS.len() as u64) as usize];
            story(prompt, seed + round as u64 * cli.stories, TURNS, |took| scenes.push(took));
        }
        rates.push((cli.stories * TURNS as u64) as f64 / (cpu_seconds()? - begun));
    }
    rates.sort_by(f64::total_cmp);
    scenes.sort_unstable();
    let at = |share: f64| scenes[((scenes.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!();
    println!(
        "| scenes per CPU second, median of rounds | slowest | fastest | p50 µs | p99 µs | most µs |"
    );
    println!("|---|---|---|---|---|---|");
    println!(
        "| {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.0} |",
        rates[rates.len() / 2],
        rates[0],
        rates[rates.len() - 1],
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// User and system time of this process, which has one busy thread.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let mut ticks = after_name.split_whitespace().skip(11).map(str::parse::<f64>);
    let (user, system) = (ticks.next().context("utime")??, ticks.next().context("stime")??);
    Ok((user + system) / TICKS_PER_SECOND)
}

/// Plays one story; `scene` is told what each scene took. Merging the patch counts towards the round, not the scene.
fn story(prompt: &str, seed: u64, turns: usize, mut scene: impl FnMut(Duration)) {
    let mut state = Object::new();
    let mut choices: Vec<Choice> = Vec::new();
    for turn in 0..turns {
        let via = if choices.is_empty() {
            Via::Prompt
        } else {
            let index = (seed as usize * 7 + turn * 5) % choices.len();
            let text = choices[index].label.clone();
            Via::Choose { choice: format!("c{}", index + 1), text }
        };
        let begun = Instant::now();
        let told = compose(&Input {
            prompt,
            genre: None,
            tone: Some("dark"),
            length: Length::Medium,
            language: "en",
            seed,
            state: &state,
            via: &via,
            variation: 0,
        });
        scene(begun.elapsed());
        patch::merge(&mut state, &told.patch);
        choices = black_box(told).choices;
    }
}
