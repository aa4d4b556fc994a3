//! A reader who plays a story, and what is checked of every scene.

use std::collections::HashSet;

use super::super::grammar::indefinite;
use super::super::*;
use crate::domain::patch;

/// A reader and what they have so far.
pub struct Play {
    pub prompt: &'static str,
    pub length: Length,
    pub tone: Option<&'static str>,
    pub genre: Option<&'static str>,
    pub language: &'static str,
    pub seed: u64,
    pub state: Object,
    pub choices: Vec<Choice>,
}

impl Play {
    pub fn new(prompt: &'static str, seed: u64, length: Length) -> Self {
        let tone = [None, Some("dark"), Some("a comic tone"), Some("hopeful")][seed as usize % 4];
        let genre = [None, Some("noir"), Some("a fable")][seed as usize % 3];
        Self {
            prompt,
            length,
            tone,
            genre,
            language: "en",
            seed,
            state: Object::new(),
            choices: Vec::new(),
        }
    }

    pub fn input<'a>(&'a self, via: &'a Via, variation: u32) -> Input<'a> {
        Input {
            prompt: self.prompt,
            genre: self.genre,
            tone: self.tone,
            length: self.length,
            language: self.language,
            seed: self.seed,
            state: &self.state,
            via,
            variation,
        }
    }

    pub fn choose(&self, index: usize) -> Via {
        if self.choices.is_empty() {
            return Via::Prompt;
        }
        let index = index % self.choices.len();
        Via::Choose { choice: format!("c{}", index + 1), text: self.choices[index].label.clone() }
    }

    /// By the seed's own whim.
    pub fn whim(&self, turn: u64) -> Via {
        self.choose(Key::new(self.seed).at(turn).below(97))
    }

    pub fn take(&mut self, scene: &Scene) {
        patch::merge(&mut self.state, &scene.patch);
        self.choices.clone_from(&scene.choices);
    }

    pub fn turn(&mut self, via: &Via) -> Scene {
        let scene = compose(&self.input(via, 0));
        self.take(&scene);
        scene
    }

    /// Plays `turns` turns by the seed's own whim.
    pub fn play(&mut self, turns: u64) -> Vec<Scene> {
        (0..turns)
            .map(|turn| {
                let via = self.whim(turn);
                self.turn(&via)
            })
            .collect()
    }

    pub fn at(&self) -> &str {
        self.state["story"]["at"].as_str().unwrap_or_default()
    }

    pub fn pack(&self) -> &'static Pack {
        let id = self.state["story"]["pack"].as_str().unwrap_or_default();
        content(self.language).pack(id).unwrap()
    }

    pub fn ended(&self) -> bool {
        self.state.contains_key("ended")
    }
}

pub fn say(text: &str) -> Via {
    Via::Say { text: text.to_owned() }
}

/// What no text of ours may contain, whatever fills it.
const SLIPS: [&str; 19] = [
    "{",
    "}",
    "<<<",
    "  ",
    " ,",
    ",,",
    ",.",
    " the the ",
    " a a ",
    " an an ",
    " a the ",
    " an the ",
    " the a ",
    "They was ",
    "They is ",
    "They has ",
    "You was ",
    "You is ",
    "You has ",
];

pub fn check_prose(prose: &str, whose: &str) {
    for slip in SLIPS {
        assert!(!prose.contains(slip), "{whose}: {slip:?} in {prose}");
    }
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

pub fn check_scene(scene: &Scene, whose: &str) {
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
