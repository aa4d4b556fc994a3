//! What every story keeps, over many seeds and prompts of all kinds: 1,000 seeds of each prompt when optimised
//! (`make gates`), a sample of them otherwise.

mod measure;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use self::measure::{Callbacks, Language, means};
use super::super::resume::sentences;
use super::super::template::count_words;
use super::play::{Play, check_scene};
use super::*;

const HISTORY: [&str; 10] = [
    "What if Rome never fell?",
    "What if Napoleon won at Waterloo in 1815?",
    "What if the printing press was invented in 1000 BC?",
    "What if China instead of Spain reached America by the 15th century?",
    "What if the Library of Alexandria had not burned?",
    "What if electricity was discovered in ancient Egypt?",
    "What if the Black Death killed everyone in 1348?",
    "What if the Berlin Wall never fell?",
    "Imagine the Vikings stayed in Vinland",
    "What if the Moon landing failed in 1969?",
];
const PERSONAL: [&str; 8] = [
    "What if I had never met my wife?",
    "What if I quit my job tomorrow?",
    "What if my father had stayed?",
    "what if i was never born",
    "What if I could start over in 1985?",
    "What if she said yes?",
    "What if my grandmother never left Vietnam?",
    "What if I won the lottery?",
];
const ABSURD: [&str; 12] = [
    "What if all bees vanished tonight?",
    "What if cats could talk?",
    "What if nobody ever slept?",
    "What if it always rained?",
    "What if the gods answered every prayer?",
    "What if the dinosaurs survived?",
    "what if the moon disapeared",
    "waht if gravty stoped in the 23rd century",
    "asdf jkl",
    "",
    "もしローマが滅びなかったら",
    "What if <b>{everything}</b> | was \"free\"?\n\nIgnore this.",
];

const TURNS: u64 = 12;
/// Bytes of the state after a story.
const MAX_STATE: usize = 6 * 1024;
/// Share of different words among the first 1,000 words of a story, in the mean and at the least: a little below what
/// 30,000 stories have (0.40, 0.35). Passages told twice lower it at once.
const WORDS_MEAN: f64 = 0.39;
const WORDS_LEAST: f64 = 0.34;
/// Share of sentences whose first two words begin no other sentence of the story: a little below what 30,000 stories
/// have (0.72, 0.52). “You had …” all over lowers it.
const OPENINGS_MEAN: f64 = 0.66;
const OPENINGS_LEAST: f64 = 0.50;
/// Share of pairs of choices that lead to other situations within two turns.
const DIVERGENCE: f64 = 0.90;

fn seeds() -> u64 {
    if cfg!(debug_assertions) { 6 } else { 1_000 }
}

fn prompts() -> impl Iterator<Item = &'static str> {
    HISTORY.into_iter().chain(PERSONAL).chain(ABSURD)
}

/// Runs `of` for every prompt and seed, on two threads.
fn each<R: Send>(of: impl Fn(&'static str, u64) -> R + Sync) -> Vec<R> {
    let half = |parity: u64| {
        let stories = prompts().flat_map(|prompt| (0..seeds()).map(move |seed| (prompt, seed)));
        stories
            .filter(|(_, seed)| seed % 2 == parity)
            .map(|(prompt, seed)| of(prompt, seed))
            .collect()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Vec<R> { half(1) });
        let mut all: Vec<R> = half(0);
        all.extend(other.join().unwrap());
        all
    })
}

struct Outcome {
    pack: &'static str,
    ending: Option<String>,
    situations: BTreeSet<String>,
    language: Language,
    callbacks: usize,
    secrets: usize,
    causes: usize,
    state: usize,
}

#[test]
fn stories_keep_what_they_promise() {
    let callbacks: BTreeMap<&str, Callbacks> =
        content("en").packs().map(|pack| (pack.id.as_str(), Callbacks::of(pack))).collect();
    let outcomes = each(|prompt, seed| story(prompt, seed, &callbacks));

    let of = |value: fn(&Outcome) -> f64| means(outcomes.iter().map(value));
    let (words, openings) = (of(|it| it.language.words), of(|it| it.language.openings));
    println!("{} stories of {TURNS} turns", outcomes.len());
    println!("different words: mean {:.3}, least {:.3}", words.0, words.1);
    println!("different openings of sentences: mean {:.3}, least {:.3}", openings.0, openings.1);
    let (back, secrets, causes) =
        (of(|it| it.callbacks as f64), of(|it| it.secrets as f64), of(|it| it.causes as f64));
    println!("callbacks a story: mean {:.1}, least {}", back.0, back.1);
    println!("secrets and causes a story: mean {:.2} and {:.2}", secrets.0, causes.0);
    println!("state in bytes: most {}", outcomes.iter().map(|it| it.state).max().unwrap());
    assert!(secrets.0 >= 1.0 && causes.0 >= 1.0, "{secrets:?} {causes:?}");
    assert!(words.0 >= WORDS_MEAN && words.1 >= WORDS_LEAST, "{words:?}");
    assert!(openings.0 >= OPENINGS_MEAN && openings.1 >= OPENINGS_LEAST, "{openings:?}");

    if !cfg!(debug_assertions) {
        for pack in content("en").packs() {
            let mine = || outcomes.iter().filter(|outcome| outcome.pack == pack.id);
            let told: BTreeSet<&str> = mine().filter_map(|it| it.ending.as_deref()).collect();
            let seen: BTreeSet<&String> = mine().flat_map(|it| &it.situations).collect();
            println!("{}: {} endings, {} situations", pack.id, told.len(), seen.len());
            assert_eq!(told.len(), pack.ending.len(), "{}: {told:?}", pack.id);
        }
    }
}

/// Plays one story and checks it on the way.
fn story(prompt: &'static str, seed: u64, callbacks: &BTreeMap<&str, Callbacks>) -> Outcome {
    let length = [Length::Short, Length::Medium, Length::Long][seed as usize % 3];
    let mut play = Play::new(prompt, seed, length);
    let read = prompt::parse(prompt, "en");
    let mut seen: HashSet<String> = HashSet::new();
    let mut situations = BTreeSet::new();
    let (mut ended, mut last_callback, mut last_named) = (None, 0, 0);
    let (mut back, mut causes, mut ending) = (0, 0, None);
    let mut text = String::new();
    for turn in 1..=TURNS {
        let via = play.whim(turn);
        let scene = play.turn(&via);
        let whose = format!("{prompt:?} seed {seed} turn {turn}");
        check_scene(&scene, &whose);
        check_length(&scene, length, play.ended(), &whose);
        for sentence in scene.prose.split("\n\n").flat_map(sentences).map(str::trim) {
            if count_words(sentence) > 3 {
                assert!(seen.insert(sentence.to_owned()), "{whose}: again {sentence:?}");
            }
        }
        if names(&scene.prose, &read) {
            last_named = turn;
        }
        assert!(last_named > 0 && turn - last_named < 3, "{whose}: {:?} is forgotten", read.actor);
        if callbacks[play.pack().id.as_str()].are_in(&scene.prose) {
            (last_callback, back) = (turn, back + 1);
        }
        assert!(
            turn < 4 || turn - last_callback < 4,
            "{whose}: nothing came back since {last_callback}"
        );
        causes += usize::from(play.state["story"]["acted"] == json!(turn));
        situations.insert(play.at().to_owned());
        if play.ended() && ended.is_none() {
            ended = Some(turn);
            ending = Some(play.at().to_owned());
        }
        text.push_str(&scene.prose);
        text.push_str("\n\n");
    }
    assert!(matches!(ended, Some(8..=12)), "{prompt:?} seed {seed} ended at {ended:?}");
    let state = serde_json::to_string(&play.state).unwrap().len();
    assert!(state <= MAX_STATE, "{prompt:?} seed {seed}: state of {state} bytes");
    assert!(!has_null(&Value::Object(play.state.clone())));
    let cast = play.state["cast"].as_object().unwrap();
    for title in cast.values().filter_map(|member| member["title"].as_str()) {
        let twice = format!(", {title}, who ");
        assert!(
            !title.starts_with("who ") || !text.contains(&twice),
            "{prompt:?} seed {seed}: {twice:?}"
        );
    }
    let secrets = cast.values().filter(|member| member.get("secret").is_some()).count();
    assert!(secrets <= 4, "{prompt:?} seed {seed}: {secrets} secrets in two books");
    Outcome {
        pack: &play.pack().id,
        ending,
        situations,
        language: Language::of(&text),
        callbacks: back,
        secrets,
        causes,
        state,
    }
}

fn check_length(scene: &Scene, length: Length, ended: bool, whose: &str) {
    let words = count_words(&scene.prose);
    let (low, high) = match length {
        Length::Short => (76, 240),
        Length::Medium => (130, 300),
        Length::Long => (150, 390),
    };
    // An ending takes the room it needs.
    let high = if ended { high.max(320) } else { high };
    assert!((low..=high).contains(&words), "{whose}: {words} words\n{}", scene.prose);
}

/// Whether the scene says what it is all about.
fn names(prose: &str, prompt: &Prompt) -> bool {
    let prose = prose.to_lowercase();
    [&prompt.actor, &prompt.premise].iter().any(|what| prose.contains(&what.to_lowercase()))
}

#[test]
fn choices_lead_to_different_stories() {
    let pairs = each(|prompt, seed| {
        // Not every story from its beginning: every one from another turn.
        let mut play = Play::new(prompt, seed, Length::Short);
        play.play(1 + seed % 6);
        let ways: Vec<Vec<String>> = (0..play.choices.len())
            .map(|index| {
                let mut way = Play {
                    state: play.state.clone(),
                    choices: play.choices.clone(),
                    ..Play::new(prompt, seed, Length::Short)
                };
                [index, 0]
                    .into_iter()
                    .map(|index| {
                        let via = way.choose(index);
                        way.turn(&via);
                        way.at().to_owned()
                    })
                    .collect()
            })
            .collect();
        let mut apart = (0, 0);
        for (at, way) in ways.iter().enumerate() {
            for other in &ways[at + 1..] {
                apart.0 += usize::from(way != other);
                apart.1 += 1;
            }
        }
        apart
    });
    let (apart, all) = pairs.into_iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    let share = apart as f64 / all as f64;
    println!("{apart} of {all} pairs of choices lead elsewhere within two turns: {share:.3}");
    assert!(share >= DIVERGENCE, "{share}");
}

#[test]
fn every_ending_and_every_situation_is_reached() {
    let stories = if cfg!(debug_assertions) { 180 } else { 4_000 };
    for pack in content("en").packs() {
        let (mut endings, mut situations) = (BTreeMap::new(), BTreeSet::new());
        for seed in 0..stories {
            let prompt = prompt_for(&pack.id, seed);
            let mut play = Play::new(prompt, seed, Length::Short);
            for turn in 0..TURNS {
                let via = play.whim(turn);
                play.turn(&via);
                assert_eq!(play.pack().id, pack.id, "{prompt}");
                if play.ended() {
                    *endings.entry(play.at().to_owned()).or_insert(0) += 1;
                } else {
                    situations.insert(play.at().to_owned());
                }
            }
        }
        println!("{}: {endings:?}", pack.id);
        assert_eq!(endings.len(), pack.ending.len(), "{}: {endings:?}", pack.id);
        let missing: Vec<&str> = pack
            .storylet
            .iter()
            .map(|storylet| storylet.id.as_str())
            .filter(|id| !situations.contains(*id))
            .collect();
        println!("{}: {} situations, not {missing:?}", pack.id, situations.len());
        // A sample does not open every door.
        let allowed = if cfg!(debug_assertions) { pack.storylet.len() / 4 } else { 0 };
        assert!(missing.len() <= allowed, "{}: never reached: {missing:?}", pack.id);
    }
}

/// A prompt that the pack takes, in an age that changes with the seed.
fn prompt_for(pack: &str, seed: u64) -> &'static str {
    let prompts: &[&str] = match pack {
        "empire" => &[
            "What if the empire never fell?",
            "What if the empire fell in 1850?",
            "What if the empire won in 1990?",
        ],
        "faith" => &[
            "What if the prophet never spoke?",
            "What if the church vanished in 1850?",
            "What if the temple won in 1990?",
        ],
        "plague" => &[
            "What if the plague never came in 1350?",
            "What if the plague was cured in 1850?",
            "What if the plague came back in 1990?",
        ],
        "invention" => &[
            "What if the engine was invented in 1300?",
            "What if the telegraph was invented in 1850?",
            "What if the computer was invented in 1990?",
        ],
        "war" => &[
            "What if the war never ended in 1350?",
            "What if the war was lost in 1850?",
            "What if the war was won in 1990?",
        ],
        "nature" => &[
            "What if bees vanished in 1300?",
            "What if bees could speak in 1850?",
            "What if bees survived?",
        ],
        "space" => &[
            "What if the rocket flew in 1300?",
            "What if the rocket flew in 1850?",
            "What if the rocket never landed?",
        ],
        "personal" => &[
            "What if my wife stayed in 1300?",
            "What if my wife left in 1850?",
            "What if I had never met my wife?",
            "What if my mother won?",
        ],
        _ => &[
            "What if nobody slept in 1300?",
            "What if nobody slept in 1850?",
            "What if nobody ever slept?",
        ],
    };
    prompts[seed as usize % prompts.len()]
}

#[test]
fn a_prompt_s_time_shows() {
    for (prompt, band) in [
        ("What if the internet was invented in 1900?", content::Band::Industrial),
        ("What if Rome never fell?", content::Band::Old),
        ("What if all bees vanished tonight?", content::Band::Modern),
        ("What if the printing press was discovered during the Bronze Age?", content::Band::Old),
        ("What if the king of France won in 1950?", content::Band::Modern),
        ("What if the war was lost in the 23rd century?", content::Band::Modern),
    ] {
        for seed in 0..12 {
            let mut play = Play::new(prompt, seed, Length::Medium);
            let text: String =
                play.play(5).iter().map(|scene| format!("{}\n\n", scene.prose)).collect();
            let pack = play.pack();
            assert_eq!(play.state["story"]["band"], json!(band), "{prompt}");
            // Words that belong to this age alone, and the lines of the prompt's year.
            let of_age = (0..pack.words.names().len()).flat_map(|word| {
                let list = |band| pack.words.list(band, word as u8);
                let others = content::Band::ALL.into_iter().filter(move |other| *other != band);
                let others: Vec<&String> = others.flat_map(list).collect();
                list(band).iter().filter(move |word| !others.contains(word)).collect::<Vec<_>>()
            });
            let year = prompt::parse(prompt, "en").year;
            let period = year.and_then(|year| subject::period(content("en"), year));
            let lines = period.map_or(&[][..], |period| &period.lines);
            let shows = of_age.into_iter().any(|word| text.contains(word.as_str()))
                || lines.iter().any(|line| measure::is_in(line, &text));
            assert!(year.is_none() || shows, "{prompt} seed {seed}: {text}");
        }
    }
}
