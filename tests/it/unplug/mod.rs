//! No reader is left hanging: turns through a chain of three vendors that are unplugged in the middle of a sentence, at bytes
//! drawn from a seed, again and again. Every turn ends with a whole scene in which no word is doubled or lost, and
//! the budget's purses hold what those very calls came to.
//!
//! `WHATIF_UNPLUG_TURNS` (40) and `WHATIF_UNPLUG_SEED` (1) say how many and which.

mod bill;
mod script;
mod vendor;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use whatif::config::{self, Config, Kind};

use self::vendor::{Calls, VENDORS, Vendor};
use crate::support::app::{App, Reader};
use crate::support::socket::Socket;
use crate::support::story::Story;

/// Stories that are told at the same time.
const STORIES: usize = 8;
/// A vendor that is silent for so long is given up: much longer than one needs that is not unplugged.
const SILENCE: Duration = Duration::from_secs(3);

fn from_env(name: &str, default: usize) -> usize {
    let Ok(value) = std::env::var(name) else { return default };
    value.parse().unwrap_or_else(|_| panic!("{name} has to be a number"))
}

fn chain(config: &mut Config, vendors: &[Vendor]) {
    config.providers.text = VENDORS.map(String::from).into();
    for (name, vendor) in VENDORS.iter().zip(vendors) {
        let section = config::Vendor {
            base_url: Some(vendor.url.clone()),
            // Every call that is made is one that the test knows of.
            max_attempts: 1,
            first_byte_timeout: SILENCE,
            between_bytes_timeout: SILENCE,
            input_price: bill::PRICE.input,
            cached_input_price: bill::PRICE.cached_input,
            output_price: bill::PRICE.output,
            ..config::Vendor::of(Kind::OpenAi)
        };
        config.providers.vendors.insert((*name).to_owned(), section);
    }
    // They fail most of the time; what is to be seen is every seam, not how circuits spare them.
    config.circuits.min_calls = u32::MAX;
}

/// Tells a story of so many turns; the turn and scene of each mark.
async fn tell(app: &App, reader: &Reader, marks: Vec<usize>) -> Vec<(usize, String, Value)> {
    let mut marks = marks.into_iter();
    let first = marks.next().expect("a story has a turn");
    let scenario = app.scenario(reader, &format!("What if {}?", script::mark(first))).await;
    let id = scenario["id"].as_str().unwrap().to_owned();
    let mut socket = Socket::hello(app, reader).await;
    socket.attach(&id, None).await;
    let mut story = Story::default();
    let mut told = vec![first];
    loop {
        socket.until_turn_over().await.iter().for_each(|frame| story.apply(frame));
        let Some(mark) = marks.next() else { break };
        let text = format!("Go on to {}.", script::mark(mark));
        let scene = &story.newest().scene;
        let say = json!({ "type": "say", "scenario": id, "scene": scene, "text": text });
        socket.turn(say).await;
        told.push(mark);
    }
    story.agrees_with(app, reader, &id).await;
    let (status, tree) =
        app.ask(reader, reqwest::Method::GET, &format!("/scenarios/{id}/tree"), None).await;
    assert_eq!(status, 200);
    let scenes = tree["items"].as_array().unwrap();
    let found = |scene: &str| scenes.iter().find(|kept| kept["id"] == scene).unwrap().clone();
    let turns = told.into_iter().zip(&story.turns);
    turns.map(|(mark, turn)| (mark, turn.turn.clone(), found(&turn.scene))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_turn_ends_with_a_whole_scene_whoever_is_unplugged() {
    let turns = from_env("WHATIF_UNPLUG_TURNS", 40);
    let seed = from_env("WHATIF_UNPLUG_SEED", 1) as u64;
    let calls = Calls::default();
    let mut vendors = Vec::new();
    for number in 0..VENDORS.len() {
        vendors.push(Vendor::start(number, seed, Arc::clone(&calls)).await);
    }
    let mut app = App::start_with(|config| chain(config, &vendors)).await;
    let reader = app.reader().await;
    let stories = (0..STORIES.min(turns)).map(|story| {
        let marks: Vec<usize> = (story..turns).step_by(STORIES).collect();
        tell(&app, &reader, marks)
    });
    let told: Vec<_> = join_all(stories).await.into_iter().flatten().collect();
    assert_eq!(told.len(), turns);
    let folder = app.folder().to_owned();
    app.stop().await;

    let calls = calls.lock().unwrap();
    let mut expected = HashMap::new();
    let (mut seams, mut last_resort) = (0, 0);
    for (mark, turn, scene) in &told {
        let made: Vec<_> = calls.iter().filter(|call| call.mark == *mark).collect();
        assert_eq!(scene["finish"], "complete", "{mark}: {scene}");
        let choices = scene["choices"].as_array().unwrap();
        assert!((2..=4).contains(&choices.len()), "{mark}: {scene}");
        let (text, prose) = (scene["text"].as_str().unwrap(), script::prose(*mark));
        let by_vendors = bill::by_vendors(scene);
        assert!(
            by_vendors <= text.len() && prose.starts_with(&text[..by_vendors]),
            "{mark}:\n{text}\n{prose}"
        );
        if by_vendors == text.len() {
            assert_eq!(text, prose, "{mark}");
        } else {
            last_resort += 1;
            assert!(made.iter().all(|call| !call.whole), "{mark}: somebody told it to its end");
        }
        // Who goes on is shown what readers had seen, to the letter.
        assert!(made.iter().all(|call| text.starts_with(&call.shown)), "{mark}");
        seams += made.iter().filter(|call| !call.shown.is_empty()).count();
        expected.insert(turn.clone(), bill::of(&made, text, by_vendors));
    }
    bill::agrees_with(&folder, &expected);
    let broken = calls.iter().filter(|call| !call.whole).count();
    eprintln!(
        "unplug: {turns} turns, {} calls, {broken} of them broken off, {seams} seams, {last_resort} scenes ended by the storyteller",
        calls.len()
    );
    assert!(broken * 2 > turns && seams * 4 > turns, "too little was unplugged");
}
