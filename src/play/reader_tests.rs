//! Tests of the client-side state machine: what is shown must not depend on how the log was delivered.

use proptest::prelude::*;

use super::*;

fn frame(seq: u64, event: Event) -> LogFrame {
    LogFrame { scenario: "S".into(), epoch: "e1".into(), seq, seq_from: None, event }
}

fn choice(id: usize) -> Choice {
    Choice { id: format!("c{id}"), label: format!("way {id}"), hint: None }
}

/// The log of turns with these pieces of text, two choices each.
fn log(turns: &[Vec<String>]) -> Vec<LogFrame> {
    let mut events = Vec::new();
    for (index, pieces) in turns.iter().enumerate() {
        let (turn, scene) = (format!("t{index}"), format!("n{}", index + 1));
        let parent = (index > 0).then(|| format!("n{index}"));
        let via = Via { kind: "choose".into(), text: None };
        events.push(Event::TurnStarted { turn: turn.clone(), scene: scene.clone(), parent, via });
        let mut off = 0;
        for text in pieces {
            events.push(Event::TextDelta { turn: turn.clone(), off, text: text.clone() });
            off += utf16_len(text);
        }
        events.push(Event::TextDone { turn: turn.clone() });
        events.extend((1..=2).map(|id| Event::Choice { turn: turn.clone(), choice: choice(id) }));
        events.push(Event::ChoicesDone { turn: turn.clone() });
        events.push(Event::Other);
        events.push(Event::TurnDone { turn, scene, finish: "complete".into() });
    }
    (1..).zip(events).map(|(seq, event)| frame(seq, event)).collect()
}

/// Joins neighbouring pieces of text: how a text was cut is nobody's business.
fn joined(outputs: Vec<Output>) -> Vec<Output> {
    outputs.into_iter().fold(Vec::new(), |mut all, output| {
        match (all.last_mut(), output) {
            (Some(Output::Text(before)), Output::Text(text)) => before.push_str(&text),
            (_, output) => all.push(output),
        }
        all
    })
}

fn read_through(frames: &[LogFrame]) -> Vec<Output> {
    let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
    for frame in frames {
        assert_eq!(reader.apply(frame.clone(), &mut out), Verdict::Applied, "{frame:?}");
    }
    joined(out)
}

/// The frames from index `from` to `to` as one, if they are all deltas.
fn merged(frames: &[LogFrame], from: usize, to: usize) -> Option<LogFrame> {
    let mut whole = frames.get(from)?.clone();
    for next in frames.get(from + 1..=to)? {
        let Event::TextDelta { text: more, .. } = &next.event else { return None };
        let Event::TextDelta { text, .. } = &mut whole.event else { return None };
        text.push_str(more);
        whole.seq_from.get_or_insert(whole.seq);
        whole.seq = next.seq;
    }
    Some(whole)
}

/// The state after the first `taken` frames, as a server that lost its log tells it.
fn snapshot_of(frames: &[LogFrame], taken: usize) -> Snapshot {
    let (mut reader, mut ignored) = (Reader::from_start(None), Vec::new());
    for frame in &frames[..taken] {
        reader.apply(frame.clone(), &mut ignored);
    }
    let open_turn = reader.open.map(|Open { turn, scene, .. }| OpenTurn {
        turn,
        scene: scene.id,
        parent: scene.parent,
        via: scene.via,
        text: scene.text,
        choices: scene.choices,
    });
    let (scenario, epoch) = ("S".into(), "e2".into());
    Snapshot { scenario, epoch, seq: taken as u64, scenes: reader.scenes, open_turn }
}

fn turns() -> impl Strategy<Value = Vec<Vec<String>>> {
    prop::collection::vec(prop::collection::vec("[a-c 罗𝄞\n]{1,5}", 1..8), 1..4)
}

proptest! {
    #[test]
    fn what_is_shown_does_not_depend_on_the_delivery(
        turns in turns(),
        steps in prop::collection::vec((0u8..5, 0usize..40, 0usize..5), 0..120),
    ) {
        let frames = log(&turns);
        let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
        for (step, at, length) in steps {
            let next = usize::try_from(reader.position().1).unwrap();
            let from = match step {
                0 => at % frames.len(),               // anything: old, next or too far ahead
                1 => next.saturating_sub(at),         // a replay that begins too early
                _ => next,
            };
            let Some(frame) = merged(&frames, from, from + length).or_else(|| frames.get(from).cloned())
            else { continue };
            let (first, seq) = (frame.seq_from.unwrap_or(frame.seq), frame.seq);
            let last = reader.position().1;
            let verdict = reader.apply(frame, &mut out);
            let expected = if seq <= last { Verdict::Dropped }
                else if first == last + 1 { Verdict::Applied }
                else { Verdict::Hole };
            prop_assert_eq!(verdict, expected);
        }
        let rest = usize::try_from(reader.position().1).unwrap();
        for frame in &frames[rest..] {
            prop_assert_eq!(reader.apply(frame.clone(), &mut out), Verdict::Applied);
        }
        prop_assert_eq!(joined(out), read_through(&frames));
    }

    #[test]
    fn a_snapshot_anywhere_shows_exactly_what_is_missing(
        turns in turns(), seen in 0usize..60, missed in 0usize..60,
    ) {
        let frames = log(&turns);
        let seen = seen % frames.len();
        let at = (seen + missed).min(frames.len());
        let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
        for frame in &frames[..seen] {
            reader.apply(frame.clone(), &mut out);
        }
        reader.snapshot(snapshot_of(&frames, at), &mut out);
        for frame in &frames[at..] {
            let frame = LogFrame { epoch: "e2".into(), ..frame.clone() };
            prop_assert_eq!(reader.apply(frame, &mut out), Verdict::Applied);
        }
        let story = |outputs: Vec<Output>| {
            // A snapshot does not say whether an open turn's text had ended, so the end may be told twice.
            let kept = outputs.into_iter().filter(|output| *output != Output::TextDone).collect();
            joined(kept)
        };
        prop_assert_eq!(story(out), story(read_through(&frames)));
    }
}

fn two_turns() -> Vec<LogFrame> {
    log(&[vec!["Rome ".into(), "stands.".into()], vec!["It ".into(), "burns.".into()]])
}

#[test]
fn another_epoch_is_a_hole_until_its_snapshot_comes() {
    let frames = two_turns();
    let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
    reader.apply(frames[0].clone(), &mut out);
    let foreign = LogFrame { epoch: "e2".into(), ..frames[1].clone() };
    assert_eq!(reader.apply(foreign.clone(), &mut out), Verdict::Hole);
    reader.snapshot(snapshot_of(&frames, 1), &mut out);
    assert_eq!(reader.apply(foreign, &mut out), Verdict::Applied);
}

#[test]
fn a_snapshot_with_another_text_says_so_and_starts_the_scene_over() {
    let frames = two_turns();
    let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
    for frame in &frames[..3] {
        reader.apply(frame.clone(), &mut out);
    }
    out.clear();
    let mut snapshot = snapshot_of(&frames, 3);
    snapshot.open_turn.as_mut().unwrap().text = "Rome falls".into();
    reader.snapshot(snapshot, &mut out);
    assert_eq!(out, [Output::Rewritten, Output::Text("Rome falls".into())]);
}

#[test]
fn a_scene_that_the_server_lost_is_not_passed_over() {
    let frames = two_turns();
    let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
    let second = frames.len() / 2;
    for frame in &frames[..second + 2] {
        reader.apply(frame.clone(), &mut out);
    }
    out.clear();
    reader.snapshot(snapshot_of(&frames, second), &mut out);
    assert_eq!(out, [Output::Lost]);
    assert_eq!(reader.open_turn(), None);
    assert_eq!(reader.current().map(|scene| scene.id.as_str()), Some("n1"));
}

#[test]
fn a_story_with_a_past_shows_only_where_it_stands() {
    let frames = two_turns();
    let attached = Attached { epoch: "e1".into(), head: frames.len() as u64, recovered: true };
    let second_scene = read_through(&frames)[read_through(&frames).len() / 2..].to_vec();
    let at_its_end: Vec<Output> =
        std::iter::once(Output::Back { scene: "n2".into() }).chain(second_scene.clone()).collect();

    let (mut reader, mut out) = (Reader::catching_up(), Vec::new());
    reader.attached(&attached, &mut out);
    for frame in &frames {
        assert!(out.is_empty(), "{out:?}");
        reader.apply(frame.clone(), &mut out);
    }
    assert_eq!(joined(out), at_its_end, "attached at the end");

    let (mut reader, mut out) = (Reader::catching_up(), Vec::new());
    let middle = Attached { head: frames.len() as u64 - 3, ..attached.clone() };
    reader.attached(&middle, &mut out);
    for frame in &frames {
        reader.apply(frame.clone(), &mut out);
    }
    assert_eq!(joined(out), second_scene, "attached in the middle of a turn");

    let (mut reader, mut out) = (Reader::catching_up(), Vec::new());
    reader.attached(&Attached { recovered: false, ..attached }, &mut out);
    assert!(reader.is_catching_up());
    reader.snapshot(snapshot_of(&frames, frames.len()), &mut out);
    assert_eq!(joined(out), at_its_end, "told by a snapshot");
}

#[test]
fn a_jump_shows_the_scene_again_and_makes_it_the_current_one() {
    let frames = two_turns();
    let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
    for frame in &frames {
        reader.apply(frame.clone(), &mut out);
    }
    out.clear();
    let (turn, seq, scene) = ("t9".to_owned(), frames.len() as u64, "n1".to_owned());
    let via = Via { kind: "jump".into(), text: None };
    let started =
        Event::TurnStarted { turn: turn.clone(), scene: scene.clone(), parent: None, via };
    let done = Event::TurnDone { turn, scene: scene.clone(), finish: "complete".into() };
    reader.apply(frame(seq + 1, started), &mut out);
    reader.apply(frame(seq + 2, done), &mut out);
    assert_eq!(out[0], Output::Back { scene });
    assert_eq!(out[2], Output::Text("Rome stands.".into()));
    assert_eq!(reader.current().map(|scene| scene.id.as_str()), Some("n1"));
}

#[test]
fn a_turn_that_fails_keeps_its_text_as_a_scene_whenever_there_is_any() {
    for (deltas, current) in [(1, Some("n1")), (0, None)] {
        let frames = two_turns();
        let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
        for frame in &frames[..1 + deltas] {
            reader.apply(frame.clone(), &mut out);
        }
        let failed = Event::TurnFailed { turn: "t0".into(), message: "no provider".into() };
        reader.apply(frame(2 + deltas as u64, failed), &mut out);
        assert_eq!(out.last(), Some(&Output::Failed { message: "no provider".into() }));
        assert_eq!(reader.open_turn(), None);
        assert_eq!(reader.current().map(|scene| scene.id.as_str()), current);
    }
}

#[test]
fn a_turn_that_is_retracted_leaves_nothing() {
    let frames = two_turns();
    let (mut reader, mut out) = (Reader::from_start(Some("e1".into())), Vec::new());
    for frame in &frames[..2] {
        reader.apply(frame.clone(), &mut out);
    }
    reader.apply(frame(3, Event::TurnRetracted { turn: "t0".into() }), &mut out);
    assert_eq!(out.last(), Some(&Output::Retracted));
    let failed = Event::TurnFailed { turn: "t0".into(), message: "not allowed".into() };
    reader.apply(frame(4, failed), &mut out);
    assert_eq!((reader.open_turn(), reader.current()), (None, None));
    assert!(reader.is_stillborn(), "it can be told again");
}
