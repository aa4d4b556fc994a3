//! The reader's own words: what they ask, of whom, and how they change the course.

use std::collections::HashSet;

use super::play::{Play, check_scene, say};
use super::*;

#[test]
fn free_words_change_the_course_and_are_answered() {
    let mut play = Play::new(PROMPTS[0], 2, Length::Medium);
    play.play(3);
    let mut patches = HashSet::new();
    let mut situations = HashSet::new();
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
        situations.insert(scene.patch["story"]["at"].to_string());
    }
    assert_eq!(patches.len(), 5, "each moves other pressures");
    assert!(situations.len() >= 4, "{situations:?}");
}

#[test]
fn the_next_situation_is_what_the_words_are_about() {
    let (mut called, mut all) = (0, 0);
    for pack in content("en").packs() {
        for (seed, storylet) in pack.storylet.iter().enumerate() {
            if storylet.about.len() < 2 || !storylet.needs.is_empty() || storylet.acts[0] > 1 {
                continue;
            }
            let mut play = Play::new(PROMPTS[0], seed as u64, Length::Medium);
            play.state.insert("story".to_owned(), json!({"pack": pack.id}));
            play.play(2);
            let band: content::Band =
                serde_json::from_value(play.state["story"]["band"].clone()).unwrap();
            let possible =
                storylet.plays_in(band) && storylet.fits(&prompt::parse(PROMPTS[0], "en"));
            if !possible || play.at() == storylet.id {
                continue;
            }
            let via =
                say(&format!("Think of the {} and the {}", storylet.about[0], storylet.about[1]));
            let scene = play.turn(&via);
            check_scene(&scene, &storylet.id);
            let here = action::storylet(pack, play.at()).unwrap();
            let about = |word: &String| content::hits(&here.about, std::slice::from_ref(word)) > 0;
            let is_called = storylet.about[..2].iter().any(about);
            called += usize::from(is_called);
            all += 1;
        }
    }
    assert!(all > 20 && called * 10 >= all * 9, "{called} of {all} are about what was said");
}

#[test]
fn whoever_is_named_reacts() {
    for seed in 0..20 {
        let mut play = Play::new(PROMPTS[0], seed, Length::Medium);
        play.play(4);
        for (key, member) in play.state["cast"].as_object().unwrap().clone() {
            let name = member["name"].as_str().unwrap().to_owned();
            let short = name.split(' ').next_back().unwrap();
            let prose = compose(&play.input(&say(&format!("Talk to {name}")), 0)).prose;
            assert!(prose.matches(short).count() >= 2, "{key}: {prose}");
            let title = member["title"].as_str().unwrap();
            let Some(office) = title.strip_prefix("the ").and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            if office.len() >= 5 {
                let prose = compose(&play.input(&say(&format!("Write to the {office}")), 0)).prose;
                assert!(prose.contains(&format!("“Write to the {office}")), "{prose}");
            }
        }
    }
}

#[test]
fn what_was_said_comes_back() {
    for seed in 0..20 {
        let mut play = Play::new(PROMPTS[seed as usize], seed, Length::Medium);
        play.play(2);
        let words = "Open every door in the city and leave it open";
        let first = play.turn(&say(words)).prose;
        assert!(first.contains(words), "{first}");
        let later: String = (0..4)
            .map(|turn| {
                let via = play.whim(turn + 40);
                play.turn(&via).prose
            })
            .collect();
        assert!(later.contains(words), "seed {seed}: {later}");
    }
}

#[test]
fn shouting_and_asking_are_not_the_same() {
    let mut play = Play::new(PROMPTS[0], 9, Length::Long);
    play.play(2);
    let plain = compose(&play.input(&say("Send the soldiers home"), 0));
    let harsh = compose(&play.input(&say("Send the damn soldiers home!!"), 0));
    let gentle = compose(&play.input(&say("Please send the soldiers home"), 0));
    let pressures = |scene: &Scene| {
        let mut state = play.state.clone();
        patch::merge(&mut state, &scene.patch);
        state["pressures"].clone()
    };
    assert_ne!(pressures(&plain), pressures(&harsh));
    assert_ne!(pressures(&harsh), pressures(&gentle));
}
