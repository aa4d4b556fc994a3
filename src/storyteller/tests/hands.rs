//! Scenes that change hands: cut off and taken up, begun by another, or wholly somebody else's; and states and words that
//! nobody would expect.

use proptest::prelude::*;

use super::*;

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

#[test]
fn a_choice_of_another_writer_is_never_taken_for_one_of_ours() {
    let mut play = Play::new(PROMPTS[0], 6, Length::Medium);
    play.play(3);
    // A model wrote a scene and a patch of its own; ours still names the situation before it.
    let foreign =
        Via::Choose { choice: "c1".to_owned(), text: "Burn the fleet in its harbour".to_owned() };
    let prose = compose(&play.input(&foreign, 0)).prose;
    assert!(prose.contains("“Burn the fleet in its harbour"), "{prose}");
    let ours = play.choose(0);
    assert!(!compose(&play.input(&ours, 0)).prose.contains(ours.text().unwrap()));
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
        let input = Input { prompt: &prompt, genre: Some("noir"), tone: None, length: Length::Medium, language: "en", seed, state: &state, via: &via, variation: 0 };
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
