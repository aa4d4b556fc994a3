//! What a reader may rely on, whatever the prompt, the seed and the way taken.

use std::collections::HashSet;

use serde_json::{Value, json};

mod gates;
mod hands;
mod languages;
mod play;
mod words;

use self::play::{Play, check_scene};
use super::resume::sentences;
use super::template::count_words;
use super::*;
use crate::domain::ids::SceneId;
use crate::domain::patch;

const PROMPTS: [&str; 20] = [
    "What if Rome never fell?",
    "What if the printing press was invented in 1000 BC?",
    "What if all bees vanished tonight?",
    "What if I had never met my wife?",
    "What if Napoleon won at Waterloo in 1815?",
    "What if cats could talk?",
    "what if the moon disapeared",
    "asdf jkl",
    "",
    "もしローマが滅びなかったら",
    "What if China instead of Spain reached America by the 15th century?",
    "What if electricity was discovered in ancient Egypt?",
    "What if the dinosaurs survived?",
    "What if it always rained?",
    "What if nobody ever slept?",
    "What if the Library of Alexandria had not burned?",
    "What if oceans vanished?",
    "Imagine the Vikings stayed in Vinland",
    "What if <b>{everything}</b> | was \"free\"?\n\nIgnore this.",
    "What if the internet was never invented?",
];

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

#[test]
fn a_story_goes_on_after_its_ending_for_as_long_as_anyone_reads() {
    let mut play = Play::new(PROMPTS[0], 5, Length::Medium);
    for (turn, scene) in play.play(60).iter().enumerate() {
        check_scene(scene, &format!("turn {turn}"));
        assert!(count_words(&scene.prose) >= 60, "turn {turn}: {}", scene.prose);
    }
    assert!(play.state["book"].as_u64().unwrap() >= 4);
    assert!(serde_json::to_string(&play.state).unwrap().len() <= 8 * 1024);
}

#[test]
fn the_same_request_gives_the_same_bytes_and_a_retry_gives_others() {
    for seed in 0..40 {
        let mut play = Play::new(PROMPTS[seed as usize % 20], seed, Length::Medium);
        for turn in 0..10 {
            let via = play.choose(seed as usize + turn);
            let first = compose(&play.input(&via, 0));
            assert_eq!(compose(&play.input(&via, 0)), first);
            let retries: HashSet<String> =
                (0..4).map(|variation| compose(&play.input(&via, variation)).prose).collect();
            assert!(retries.len() >= if turn == 0 { 2 } else { 4 }, "seed {seed} turn {turn}");
            play.take(&first);
        }
    }
}

#[test]
fn a_retry_answers_the_same_action() {
    let mut play = Play::new(PROMPTS[0], 3, Length::Medium);
    play.play(2);
    let Via::Choose { choice, text } = play.choose(1) else { panic!("no choice") };
    let retry =
        Via::Retry { of: SceneId(3), choice: Some(choice.clone()), text: Some(text.clone()) };
    let chosen = Via::Choose { choice, text };
    let (first, again) = (compose(&play.input(&chosen, 0)), compose(&play.input(&retry, 1)));
    let opening = |scene: &Scene| sentences(&scene.prose).next().unwrap().to_owned();
    assert_eq!(opening(&first), opening(&again));
    assert_ne!(first.prose, again.prose);
}

#[test]
fn the_prompt_is_in_the_first_scene() {
    for (prompt, words) in [
        ("What if Rome never fell?", vec!["Rome never fell"]),
        ("What if Napoleon won at Waterloo in 1815?", vec!["Napoleon", "won", "in 1815"]),
        ("asdf jkl", vec!["“asdf jkl”"]),
        ("もしローマが滅びなかったら", vec!["もしローマが滅びなかったら"]),
        ("What if cats could talk?", vec!["Cats could talk"]),
    ] {
        for seed in 0..20 {
            let prose = Play::new(prompt, seed, Length::Short).turn(&Via::Prompt).prose;
            assert!(
                words.iter().all(|word| prose.to_lowercase().contains(&word.to_lowercase())),
                "{prompt}: {prose}"
            );
        }
    }
}

#[test]
fn the_content_is_sound_and_quick_to_read() {
    let findings = lint::check_compiled_in(None);
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(findings.is_empty(), "{} findings:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn tone_colours_the_words_and_not_the_events() {
    let mut plain = Play::new(PROMPTS[0], 4, Length::Long);
    let mut dark = Play::new(PROMPTS[0], 4, Length::Long);
    dark.tone = Some("very dark");
    let (plain, dark) = (plain.play(4), dark.play(4));
    assert_ne!(plain[2].prose, dark[2].prose);
    assert_eq!(plain[2].choices, dark[2].choices);
}
