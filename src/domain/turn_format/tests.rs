use proptest::prelude::*;
use serde_json::json;

use super::*;

#[derive(Debug, Clone, PartialEq)]
enum Seen {
    Text(String),
    ProseDone,
    Choice(String, Option<String>),
    ChoicesDone,
    Patch(Object),
}

fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

fn choice(label: &str) -> Seen {
    Seen::Choice(label.into(), None)
}

fn patch(value: serde_json::Value) -> Seen {
    match value {
        serde_json::Value::Object(map) => Seen::Patch(map),
        other => panic!("not an object: {other}"),
    }
}

fn read_with(
    mut parser: TurnParser,
    chunks: impl IntoIterator<Item = impl AsRef<str>>,
) -> (Vec<Seen>, Verdict) {
    let mut seen: Vec<Seen> = Vec::new();
    let mut sink = |piece: Piece<'_>| match piece {
        Piece::Text(more) => {
            assert!(!more.is_empty());
            match seen.last_mut() {
                Some(Seen::Text(text)) => text.push_str(more),
                _ => seen.push(text(more)),
            }
        }
        Piece::ProseDone => seen.push(Seen::ProseDone),
        Piece::Choice { label, hint } => seen.push(Seen::Choice(label, hint)),
        Piece::ChoicesDone => seen.push(Seen::ChoicesDone),
        Piece::Patch(patch) => seen.push(Seen::Patch(patch)),
    };
    for chunk in chunks {
        parser.push(chunk.as_ref(), &mut sink);
    }
    let verdict = parser.finish(&mut sink);
    (seen, verdict)
}

fn read(whole: &str) -> (Vec<Seen>, Verdict) {
    read_with(TurnParser::new(), [whole])
}

const CLEAN: Verdict = Verdict {
    prose: ProseVerdict::Whole,
    choices_marker: true,
    choices: 2,
    patch: PatchVerdict::Valid,
};

#[test]
fn streams_are_taken_apart() {
    use Seen::{ChoicesDone, ProseDone};
    let missing =
        Verdict { choices_marker: false, choices: 0, patch: PatchVerdict::Missing, ..CLEAN };
    let rows: Vec<(&str, &str, Vec<Seen>, Verdict)> = vec![
        (
            "as asked for",
            "\n The gate.\n\nIt fell. \n<<<CHOICES>>>\n1. Run | alone\n2. Stay\n<<<STATE>>>\n{\"a\":{\"b\":1},\"c\":null}\n",
            vec![
                text("The gate.\n\nIt fell."),
                ProseDone,
                Seen::Choice("Run".into(), Some("alone".into())),
                choice("Stay"),
                ChoicesDone,
                patch(json!({"a":{"b":1},"c":null})),
            ],
            CLEAN,
        ),
        (
            "all on one line, lower case, duplicates, a fenced patch over several lines",
            "It fell. <<<choices>>>\n- Run!\n- run\n\n- Stay <<<state>>>\n```json\n{\n \"a\": 1\n}\n```\nDone.",
            vec![
                text("It fell."),
                ProseDone,
                choice("Run!"),
                choice("Stay"),
                ChoicesDone,
                patch(json!({"a":1})),
            ],
            CLEAN,
        ),
        (
            "the state marker forgotten",
            "A.\n<<<CHOICES>>>\n1. B\n2. C\n```json\n{\"a\":1}\n```",
            vec![
                text("A."),
                ProseDone,
                choice("B"),
                choice("C"),
                ChoicesDone,
                patch(json!({"a":1})),
            ],
            CLEAN,
        ),
        (
            "prose only",
            "A <b> < c <<< d <<<CHOICE>>> e  \n",
            vec![text("A <b> < c <<< d <<<CHOICE>>> e"), ProseDone, ChoicesDone],
            missing,
        ),
        (
            "no choices marker",
            "A.\n<<<STATE>>>{}",
            vec![text("A."), ProseDone, ChoicesDone, patch(json!({}))],
            Verdict { choices_marker: false, choices: 0, ..CLEAN },
        ),
        (
            "an angle bracket too many",
            "A <<<<CHOICES>>>\n1. B",
            vec![text("A <"), ProseDone, choice("B"), ChoicesDone],
            Verdict { choices: 1, patch: PatchVerdict::Missing, ..CLEAN },
        ),
        ("a marker cut off", "A.\n<<<CHOI", vec![text("A."), ProseDone, ChoicesDone], missing),
        ("ends in angle brackets", "A <<", vec![text("A <<"), ProseDone, ChoicesDone], missing),
        (
            "at most four choices, a broken patch",
            "A<<<CHOICES>>>\nChoose:\n1. B\n2. C\n3. D\n4. E\n5. F\n<<<STATE>>>\n{\"a\":",
            vec![
                text("A"),
                ProseDone,
                choice("B"),
                choice("C"),
                choice("D"),
                choice("E"),
                ChoicesDone,
            ],
            Verdict { choices: 4, patch: PatchVerdict::Invalid, ..CLEAN },
        ),
        (
            "a patch that is no object",
            "A<<<CHOICES>>>\n1. B\n2. C\n<<<STATE>>>\n[1]",
            vec![text("A"), ProseDone, choice("B"), choice("C"), ChoicesDone],
            Verdict { patch: PatchVerdict::Invalid, ..CLEAN },
        ),
        (
            "control characters, carriage returns",
            "\u{1b}A\r\nB\u{0}\tC\u{85}£\u{7f}\r\n<<\r<CHOICES>>>\r\n1. B\r\n2. C\r\n<<<STATE>>>\r\n{}\r\n",
            vec![
                text("A\nB\tC£"),
                ProseDone,
                choice("B"),
                choice("C"),
                ChoicesDone,
                patch(json!({})),
            ],
            CLEAN,
        ),
        (
            "nothing",
            " \n",
            vec![ProseDone, ChoicesDone],
            Verdict { prose: ProseVerdict::Empty, ..missing },
        ),
    ];
    for (name, whole, seen, verdict) in rows {
        assert_eq!(read(whole), (seen, verdict), "{name}");
    }
}

#[test]
fn plain_chunks_go_through_without_a_copy() {
    let mut parser = TurnParser::new();
    for chunk in ["The", " gate", " — «fell»,", "\n\nand"] {
        let mut taken = 0;
        parser.push(chunk, &mut |piece: Piece<'_>| match piece {
            Piece::Text(text) => {
                assert!(chunk.as_bytes().as_ptr_range().contains(&text.as_ptr()), "{text:?}");
                taken += text.len();
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(taken, chunk.len(), "{chunk:?}");
    }
}

#[test]
fn choices_come_with_the_end_of_their_line() {
    let mut parser = TurnParser::new();
    let mut seen = 0;
    for (chunk, choices) in [("A\n<<<CHOICES>>>\n1. B", 0), (" b\n2", 1), (". C | d", 1), ("\n", 2)]
    {
        parser.push(chunk, &mut |piece: Piece<'_>| {
            seen += usize::from(matches!(piece, Piece::Choice { .. }))
        });
        assert_eq!(seen, choices, "{chunk:?}");
    }
}

#[test]
fn a_resumed_stream_keeps_the_space_it_starts_with() {
    let chunks = [" ", "went.\n", "<<<CHOICES>>>\n1. B\n2. C\n<<<STATE>>>\n{}"];
    let (seen, verdict) = read_with(TurnParser::resumed(2), chunks);
    assert_eq!(seen[0], text(" went."));
    assert_eq!(verdict, CLEAN);
}

#[test]
fn a_stream_of_choices_only_adds_to_those_known() {
    let whole = "Sure!\n<<<CHOICES>>>\n1. Run.\n2. Stay\n3. Sing\n4. Wait\n<<<STATE>>>\n{}";
    let (seen, verdict) = read_with(TurnParser::choices_only(["RUN", "Fly"]), [whole]);
    assert_eq!(seen, [choice("Stay"), choice("Sing"), Seen::ChoicesDone, patch(json!({}))]);
    assert_eq!(verdict, Verdict { choices: 4, ..CLEAN });
}

#[test]
fn every_part_is_bounded() {
    let (seen, verdict) = read(&format!("{}<<<CHOICES>>>\n1. B\n", "añ ".repeat(MAX_PROSE_CHARS)));
    let Seen::Text(prose) = &seen[0] else { panic!("{:?}", seen[0]) };
    assert_eq!(prose.chars().count(), MAX_PROSE_CHARS);
    assert_eq!(seen[1..], [Seen::ProseDone, Seen::ChoicesDone]);
    assert_eq!((verdict.prose, verdict.choices), (ProseVerdict::TooLong, 0));

    let (_, verdict) = read_with(TurnParser::resumed(MAX_PROSE_CHARS), ["more"]);
    assert_eq!(verdict.prose, ProseVerdict::TooLong);

    let lines = "no choice\n".repeat(MAX_CHOICES_BYTES / 10);
    let (seen, _) = read(&format!("A<<<CHOICES>>>\n1. B\n{lines}2. C\n<<<STATE>>>{{}}"));
    assert_eq!(seen[2..], [choice("B"), Seen::ChoicesDone]);

    let long = "x".repeat(MAX_PATCH_BYTES);
    let (_, verdict) =
        read(&format!("A<<<CHOICES>>>\n1. B\n2. C\n<<<STATE>>>{{\"a\":\"{long}\"}}"));
    assert_eq!(verdict.patch, PatchVerdict::Invalid);

    let spaces = ["A".to_owned(), "\n".repeat(100_000), "B".to_owned()];
    let want = (vec![text("A"), Seen::ProseDone, Seen::ChoicesDone], ProseVerdict::TooLong);
    let (seen, verdict) = read_with(TurnParser::new(), &spaces);
    assert_eq!((seen, verdict.prose), want);
    let (seen, verdict) = read(&spaces.concat());
    assert_eq!((seen, verdict.prose), want);
}

/// Text made of what matters to the parser, so that markers come whole, damaged and nested.
fn streams() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-zé𝄞 .\\n]{1,8}",
        2 => Just("<<<CHOICES>>>".to_owned()),
        2 => Just("<<<STATE>>>".to_owned()),
        2 => Just("\n1. Go <b> | far\n".to_owned()),
        1 => Just("\n- **Stay**".to_owned()),
        1 => Just("{\"a\":\n1}".to_owned()),
        2 => "<{1,4}",
        1 => "[\r\n\t \u{0}\u{85}\u{a0}]{1,4}",
        1 => "<<<(CHOI|cho|ST|STATE>>)",
        1 => ".{0,6}",
    ];
    prop::collection::vec(part, 0..16).prop_map(|parts| parts.concat())
}

fn cut(whole: &str, cuts: &[prop::sample::Index]) -> Vec<String> {
    let chars: Vec<char> = whole.chars().collect();
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
    at.extend([0, chars.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| chars[pair[0]..pair[1]].iter().collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn chunking_changes_nothing(
        whole in streams(),
        shown in 0_usize..3,
        near_limit: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let shown = if near_limit { MAX_PROSE_CHARS - 9 * shown } else { shown };
        let once = read_with(TurnParser::resumed(shown), [&whole]);
        prop_assert_eq!(&read_with(TurnParser::resumed(shown), cut(&whole, &cuts)), &once);
        let single: Vec<String> = whole.chars().map(String::from).collect();
        prop_assert_eq!(&read_with(TurnParser::resumed(shown), single), &once);
    }

    #[test]
    fn prose_is_trimmed_and_without_markers_or_control_characters(whole in streams()) {
        let (seen, _) = read(&whole);
        if let Some(Seen::Text(prose)) = seen.first() {
            prop_assert_eq!(prose.trim(), prose);
            prop_assert!(!prose.contains(CHOICES_MARKER) && !prose.contains(STATE_MARKER));
            prop_assert!(prose.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }

    #[test]
    fn what_is_rendered_is_read_again(
        prose in "[a-zé<>]([a-z é<\\n]{0,40}[a-z.])?",
        labels in prop::collection::btree_set("[a-z]{1,8}", 2..=4),
        hint in prop::option::of("[a-z]{1,9}( [a-z,]{1,9}){0,3}"),
        value in ".{0,12}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let choices: Vec<Choice> = labels
            .iter()
            .map(|label| Choice { id: "c1".into(), label: label.clone(), hint: hint.clone() })
            .collect();
        let mut state = Object::new();
        state.insert("key".into(), value.into());
        let (seen, verdict) =
            read_with(TurnParser::new(), cut(&render(&prose, &choices, &state), &cuts));
        let mut want = vec![text(&prose), Seen::ProseDone];
        want.extend(labels.into_iter().map(|label| Seen::Choice(label, hint.clone())));
        want.extend([Seen::ChoicesDone, Seen::Patch(state)]);
        prop_assert!(verdict.is_clean());
        prop_assert_eq!(seen, want);
    }
}

#[test]
fn the_rest_may_come_as_one_object() {
    let read = |answer: &str| {
        let mut pieces = Vec::new();
        let mut parser = TurnParser::choices_only(["Open the gate"]);
        for piece in answer.as_bytes().chunks(7) {
            let mut sink = |piece: Piece<'_>| pieces.push(format!("{piece:?}"));
            parser.push(std::str::from_utf8(piece).unwrap(), &mut sink);
        }
        let verdict = parser.finish(&mut |piece: Piece<'_>| pieces.push(format!("{piece:?}")));
        (pieces.join(" "), verdict.choices, verdict.patch)
    };
    let answer = r#"{"choices": [{"label": "Flee | now", "hint": "the wall falls"},
        {"label": "open the gate!"}, {"label": "Wait\nhere"}, {"label": 4}], "state": {"wall": 3}}"#;
    let (pieces, choices, patch) = read(answer);
    assert_eq!((choices, patch), (3, PatchVerdict::Valid));
    assert_eq!(
        pieces,
        r#"Choice { label: "Flee", hint: Some("now | the wall falls") } Choice { label: "Wait here", hint: None } ChoicesDone Patch({"wall": Number(3)})"#
    );
    let (pieces, choices, patch) = read(r#"{"wall": 3}"#);
    assert_eq!(
        (&*pieces, choices, patch),
        (r#"ChoicesDone Patch({"wall": Number(3)})"#, 1, PatchVerdict::Valid)
    );
    assert_eq!(read(r#"{"choices": ["#).2, PatchVerdict::Invalid);
}
