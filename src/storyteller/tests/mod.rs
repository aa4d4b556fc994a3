//! What a reader may rely on, whatever the prompt, the seed and the way taken.

use std::collections::HashSet;

use serde_json::{Value, json};

mod hands;

use super::resume::sentences;
use super::template::{count_words, indefinite};
use super::*;
use crate::domain::ids::SceneId;

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

/// A reader and what they have so far.
struct Play {
    prompt: &'static str,
    length: Length,
    tone: Option<&'static str>,
    seed: u64,
    state: Object,
    choices: Vec<Choice>,
}

impl Play {
    fn new(prompt: &'static str, seed: u64, length: Length) -> Self {
        let tone = [None, Some("dark"), Some("a comic tone"), Some("hopeful")][seed as usize % 4];
        Self { prompt, length, tone, seed, state: Object::new(), choices: Vec::new() }
    }

    fn input<'a>(&'a self, via: &'a Via, variation: u32) -> Input<'a> {
        Input {
            prompt: self.prompt,
            genre: None,
            tone: self.tone,
            length: self.length,
            seed: self.seed,
            state: &self.state,
            via,
            variation,
        }
    }

    fn choose(&self, index: usize) -> Via {
        if self.choices.is_empty() {
            return Via::Prompt;
        }
        let index = index % self.choices.len();
        Via::Choose { choice: format!("c{}", index + 1), text: self.choices[index].label.clone() }
    }

    fn take(&mut self, scene: &Scene) {
        patch::merge(&mut self.state, &scene.patch);
        self.choices.clone_from(&scene.choices);
    }

    fn turn(&mut self, via: &Via) -> Scene {
        let scene = compose(&self.input(via, 0));
        self.take(&scene);
        scene
    }

    /// Plays `turns` turns by the seed's own whim.
    fn play(&mut self, turns: u64) -> Vec<Scene> {
        (0..turns)
            .map(|turn| {
                let via = self.choose(Key::new(self.seed).at(turn).below(97));
                self.turn(&via)
            })
            .collect()
    }
}

fn say(text: &str) -> Via {
    Via::Say { text: text.to_owned() }
}

fn check_prose(prose: &str, whose: &str) {
    assert!(
        !prose.contains(['{', '}'])
            && !prose.contains("<<<")
            && !prose.contains("  ")
            && !prose.contains(" ,")
            && !prose.contains(",,"),
        "{whose}: {prose}"
    );
    assert!(
        !prose.starts_with(char::is_whitespace) && !prose.ends_with(char::is_whitespace),
        "{whose}: {prose:?}"
    );
    let words: Vec<&str> = prose.split_whitespace().collect();
    for pair in words.windows(2) {
        let article = pair[0].trim_start_matches(['“', '(']);
        if article == "a" || article == "an" {
            let next = pair[1].trim_start_matches(['“', '‘']);
            assert_eq!(article, indefinite(next), "{whose}: {} {}", pair[0], pair[1]);
        }
    }
}

fn check_scene(scene: &Scene, whose: &str) {
    check_prose(&scene.prose, whose);
    assert!((2..=4).contains(&scene.choices.len()), "{whose}");
    let labels: HashSet<&str> = scene.choices.iter().map(|choice| choice.label.as_str()).collect();
    assert_eq!(labels.len(), scene.choices.len(), "{whose}: equal labels");
    for choice in &scene.choices {
        for text in [&choice.label, &choice.hint] {
            assert!(
                !text.is_empty() && !text.contains(['\n', '|', '{', '}']) && !text.contains("<<<"),
                "{whose}: {text}"
            );
        }
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(map) => map.values().any(has_null),
        _ => false,
    }
}

#[test]
fn twelve_turn_stories_never_repeat_themselves_and_come_to_an_end() {
    let play_all = |seeds: std::ops::Range<u64>| {
        for seed in seeds {
            // Unoptimised, each seed takes two of the prompts; optimised, all.
            let every = if cfg!(debug_assertions) { 10 } else { 1 };
            for (at, prompt) in
                PROMPTS.into_iter().enumerate().skip(seed as usize % every).step_by(every)
            {
                let length =
                    [Length::Short, Length::Medium, Length::Long][(seed as usize + at) % 3];
                let mut play = Play::new(prompt, seed, length);
                let mut seen: HashSet<String> = HashSet::new();
                let mut ended = None;
                for turn in 0..12_u64 {
                    let via = play.choose(Key::new(seed).at(turn).below(97));
                    let scene = play.turn(&via);
                    let whose = format!("{prompt:?} seed {seed} turn {turn}");
                    check_scene(&scene, &whose);
                    let words = count_words(&scene.prose);
                    let (low, high) = match length {
                        Length::Short => (80, 170),
                        Length::Medium => (118, 220),
                        Length::Long => (160, 285),
                    };
                    // An ending takes the room it needs.
                    let high = if play.state.get("ended").is_some() { high.max(205) } else { high };
                    assert!(
                        (low..=high).contains(&words),
                        "{whose}: {words} words\n{}",
                        scene.prose
                    );
                    for sentence in scene
                        .prose
                        .split("\n\n")
                        .flat_map(sentences)
                        .map(str::trim)
                        .filter(|s| count_words(s) > 3)
                    {
                        assert!(seen.insert(sentence.to_owned()), "{whose}: again {sentence:?}");
                    }
                    if play.state.get("ended").is_some() && ended.is_none() {
                        ended = Some(turn + 1);
                    }
                }
                assert!(matches!(ended, Some(8..=12)), "{prompt:?} seed {seed} ended at {ended:?}");
                let size = serde_json::to_string(&play.state).unwrap().len();
                assert!(size <= 4096, "{prompt:?} seed {seed}: state of {size} bytes");
                assert!(!has_null(&Value::Object(play.state)));
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play_all(0..100));
        play_all(100..200);
    });
}

#[test]
fn every_ending_and_every_storylet_is_reached() {
    for pack in &CONTENT.packs {
        let prompt = match pack.id.as_str() {
            "empire" => "What if Rome never fell?",
            "invention" => "What if the steam engine was invented in 1300?",
            "nature" => "What if all bees vanished?",
            _ => "What if nobody ever slept?",
        };
        let mut kinds = HashSet::new();
        let mut situations = HashSet::new();
        for seed in 0..300 {
            let mut play = Play::new(prompt, seed, Length::Short);
            for turn in 0..12 {
                let via = play.choose(Key::new(seed).at(turn).below(97));
                play.turn(&via);
                assert_eq!(play.state["story"]["pack"], json!(pack.id));
                situations
                    .insert(play.state["story"]["at"].as_str().unwrap_or_default().to_owned());
                kinds.extend(play.state.get("ending").and_then(Value::as_str).map(str::to_owned));
            }
        }
        assert_eq!(kinds.len(), pack.ending.len(), "{}: {kinds:?}", pack.id);
        assert_eq!(
            situations.len(),
            pack.storylet.len() + pack.ending.len() + 1,
            "{}: {situations:?}",
            pack.id
        );
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
    assert!(serde_json::to_string(&play.state).unwrap().len() <= 4096);
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
fn free_words_change_the_course_and_are_answered() {
    let mut play = Play::new(PROMPTS[0], 2, Length::Medium);
    play.play(3);
    let mut patches = HashSet::new();
    for text in [
        "Attack the palace at once!!",
        "Feed the hungry, please",
        "Hide the treaty",
        "Ride north to the frontier",
        "Build a school",
    ] {
        let via = say(text);
        let scene = compose(&play.input(&via, 0));
        let quoted = text.trim_end_matches('!');
        assert!(scene.prose.contains(&format!("“{quoted}")), "{text}: {}", scene.prose);
        check_scene(&scene, text);
        patches.insert(scene.patch["pressures"].to_string());
    }
    assert_eq!(patches.len(), 5);
    let rival = play.state["cast"]["rival"]["name"].as_str().unwrap().to_owned();
    let via = say(&format!("Talk to {rival}"));
    let prose = compose(&play.input(&via, 0)).prose;
    assert!(prose.matches(rival.split(' ').next_back().unwrap()).count() >= 2, "{prose}");
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
            assert!(words.iter().all(|word| prose.contains(word)), "{prompt}: {prose}");
        }
    }
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
