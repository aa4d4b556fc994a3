//! What a reader may rely on, whatever the prompt, the seed and the way taken.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

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
fn cut_off_anywhere_the_rest_is_exact() {
    let mut play = Play::new(PROMPTS[3], 11, Length::Short);
    for turn in 0..3 {
        let via = play.choose(turn);
        let whole = compose(&play.input(&via, 0));
        for (at, _) in whole.prose.char_indices() {
            let rest = continue_from(&play.input(&via, 0), &whole.prose[..at]);
            assert_eq!(rest.prose, whole.prose[at..]);
            assert_eq!((&rest.choices, &rest.patch), (&whole.choices, &whole.patch));
        }
        let tail = choices_only(&play.input(&via, 0), &whole.prose);
        assert_eq!(
            (tail.prose.as_str(), tail.choices, tail.patch),
            ("", whole.choices.clone(), whole.patch.clone())
        );
        play.take(&whole);
    }
}

#[test]
fn another_hand_s_sentence_is_ended_and_its_scene_goes_on() {
    let mut play = Play::new(PROMPTS[0], 4, Length::Medium);
    play.play(2);
    let via = play.choose(0);
    for (shown, begins) in [
        ("The legions had scarcely reached the", "— "),
        ("The legions had scarcely reached the river when Marcus said: “We", "—” "),
        ("The legions slept.", "\n\n"),
        ("The legions slept.\n\n", ""),
        ("   ", ""),
    ] {
        let scene = continue_from(&play.input(&via, 0), shown);
        assert!(scene.prose.starts_with(begins), "{shown:?}: {:?}", scene.prose);
        check_scene(
            &Scene {
                prose: scene.prose.trim_start_matches(['—', '”', ' ', '\n']).to_owned(),
                ..scene.clone()
            },
            shown,
        );
        let words = count_words(&scene.prose);
        assert!((50..=170).contains(&words), "{shown:?}: {words} words");
        // Cut off once more, the storyteller takes up its own continuation.
        let mut at = scene.prose.len() / 2;
        while !scene.prose.is_char_boundary(at) {
            at += 1;
        }
        let again = continue_from(&play.input(&via, 0), &format!("{shown}{}", &scene.prose[..at]));
        assert_eq!(again.prose, scene.prose[at..], "{shown:?}");
        assert_eq!((again.choices, again.patch), (scene.choices, scene.patch));
    }
}

#[test]
fn what_was_shown_is_never_said_again() {
    let mut play = Play::new(PROMPTS[4], 8, Length::Long);
    play.play(3);
    let via = play.choose(1);
    let own = compose(&play.input(&via, 0)).prose;
    // The last paragraph of our own scene, then a stray sentence: no prefix of anything.
    let shown = format!("{} And then the bells", own.rsplit("\n\n").next().unwrap());
    let rest = continue_from(&play.input(&via, 0), &shown).prose;
    for sentence in
        rest.split("\n\n").flat_map(sentences).map(str::trim).filter(|sentence| sentence.len() > 12)
    {
        assert!(!shown.contains(sentence), "{sentence}");
    }
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

#[test]
fn a_model_s_scene_gets_choices_about_its_own_names_and_a_patch() {
    let mut play = Play::new(PROMPTS[0], 6, Length::Medium);
    play.play(2);
    let via = play.choose(0);
    let text = "The senate gathered before dawn. In the crowd stood Cornelia Gracchus, and beside her old Severus. When Cornelia Gracchus spoke, it grew still.";
    let choices = choices_for(&play.input(&via, 0), text);
    assert!((2..=4).contains(&choices.len()));
    assert!(choices.iter().any(|choice| choice.label.contains("Cornelia Gracchus")), "{choices:?}");
    let patch = patch_for(&play.input(&via, 0), text);
    patch::merge(&mut play.state, &patch);
    assert_eq!(play.state["turn"], json!(3));
    // The next turn reads such a choice for what it asks.
    let next = Via::Choose { choice: "c1".to_owned(), text: choices[0].label.clone() };
    check_scene(&compose(&play.input(&next, 0)), "after a model's scene");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-z.0-9<|{]{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(
                prop::sample::select(vec![
                    "pack", "at", "told", "met", "promises", "rival", "name", "pronoun", "grain",
                    "unrest", "arc", "from", "due"
                ]),
                inner,
                0..5
            )
            .prop_map(|map| Value::Object(
                map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_state_any_prompt_any_words_give_a_sound_scene(
        prompt in any::<String>(),
        text in any::<String>(),
        state in prop::collection::btree_map(
            prop::sample::select(vec!["turn", "act", "book", "pressures", "flags", "cast", "story", "ended", "ending", "tension", "mood"]), any_json(), 0..8),
        seed in any::<u64>(),
        shown in any::<String>(),
        choose in any::<bool>(),
    ) {
        let state: Object = state.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let via = if choose { Via::Choose { choice: "c2".to_owned(), text } } else { Via::Say { text } };
        let input = Input { prompt: &prompt, genre: Some("noir"), tone: None, length: Length::Medium, seed, state: &state, via: &via, variation: 0 };
        let scene = compose(&input);
        prop_assert!(!scene.prose.is_empty() && !scene.prose.contains("<<<") && !scene.prose.contains("\n\n\n"));
        prop_assert!((2..=4).contains(&scene.choices.len()));
        let mut after = state.clone();
        patch::merge(&mut after, &scene.patch);
        prop_assert!(after["story"].is_object());
        let tail = scene.tail();
        prop_assert_eq!(tail.lines().count(), scene.choices.len() + 4);
        let _ = continue_from(&input, &shown);
        let foreign = choices_only(&input, &shown);
        prop_assert!((2..=4).contains(&foreign.choices.len()));
        prop_assert!(foreign.choices.iter().all(|choice| !choice.label.contains(['\n', '|'])));
    }
}
