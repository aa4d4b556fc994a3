//! The reader's own words: what they change.

use std::collections::HashSet;

use super::play::{Play, check_scene, say};
use super::*;

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
