use super::*;
use crate::domain::event::Event;
use crate::domain::ids::TurnId;
use uuid::Uuid;

fn frames(scenario: ScenarioId, seqs: std::ops::RangeInclusive<u64>, text: &str) -> Vec<Frame> {
    let turn = TurnId(Uuid::nil());
    let event = Event::TextDelta { turn, off: 0, text: text.into() };
    seqs.map(|seq| Frame::encode(scenario, "e", seq, &event)).collect()
}

fn setup(head: u64) -> (Arc<Hub>, Pen, ScenarioId) {
    let hub = Arc::new(Hub::default());
    let scenario = ScenarioId(Uuid::nil());
    let pen = hub.tail(scenario).take_pen(&extent("e", head));
    (hub, pen, scenario)
}

fn extent(epoch: &str, head: u64) -> Extent {
    Extent { epoch: epoch.into(), first: 1, head }
}

fn seqs(tail: &Tail, after: u64, max_bytes: usize) -> (Taken, Vec<u64>) {
    let mut out = Vec::new();
    let taken = tail.take("e", after, max_bytes, &mut out);
    (taken, out.into_iter().map(|(seq, _)| seq).collect())
}

#[test]
fn readers_get_exactly_what_follows_their_cursor() {
    let (_hub, pen, scenario) = setup(4);
    pen.publish(5, frames(scenario, 5..=9, "x"), None);
    assert_eq!(seqs(pen.tail(), 9, 9999), (Taken::Level, vec![]));
    assert_eq!(seqs(pen.tail(), 6, 9999), (Taken::Frames, vec![7, 8, 9]));
    assert_eq!(seqs(pen.tail(), 4, 9999), (Taken::Frames, vec![5, 6, 7, 8, 9]));
    assert_eq!(seqs(pen.tail(), 4, 1), (Taken::Frames, vec![5]), "at least one");
    assert_eq!(seqs(pen.tail(), 3, 9999), (Taken::Older, vec![]));
    assert_eq!(seqs(pen.tail(), 10, 9999), (Taken::Lost, vec![]), "a cursor ahead of the log");
    assert_eq!(pen.tail().take("other", 9, 9999, &mut Vec::new()), Taken::Lost);
}

#[test]
fn memory_is_bounded_and_given_back() {
    let (hub, pen, scenario) = setup(0);
    pen.publish(1, frames(scenario, 1..=400, &"x".repeat(4_000)), None);
    assert!(pen.tail().lock().bytes <= MAX_BYTES);
    assert_eq!(pen.tail().position().unwrap().head, 400);
    assert_eq!(seqs(pen.tail(), 0, 9999).0, Taken::Older);
    pen.tail().relax();
    assert!(pen.tail().lock().bytes <= MAX_IDLE_BYTES);
    drop(pen);
    assert!(hub.tails.lock().unwrap().is_empty());
}

#[test]
fn a_late_begin_never_takes_a_tail_back() {
    let (_hub, pen, scenario) = setup(0);
    pen.publish(1, frames(scenario, 1..=3, "x"), None);
    assert!(pen.tail().learn(Some("e"), &extent("e", 1)));
    assert_eq!(seqs(pen.tail(), 1, 9999), (Taken::Frames, vec![2, 3]));
    assert!(!pen.tail().learn(Some("e"), &extent("e2", 1)), "a pen knows its own log");
    let tail = Arc::clone(pen.tail());
    drop(pen);
    assert!(!tail.learn(Some("e0"), &extent("e0", 9)), "looked before this log was begun");
    assert!(tail.learn(Some("e"), &extent("e2", 1)));
    assert_eq!(seqs(&tail, 3, 9999).0, Taken::Lost);
}

#[test]
fn what_a_reader_found_in_the_store_first_keeps_its_number() {
    let (_hub, pen, scenario) = setup(2);
    pen.publish(3, frames(scenario, 3..=4, "x"), Some(Some(3)));
    // Stored as 5 and 6, seen there by a reader that attaches, and only then published.
    assert!(pen.tail().learn(Some("e"), &extent("e", 6)));
    assert_eq!(pen.tail().position().unwrap().open_from, None, "6 may have ended the turn");
    pen.publish(5, frames(scenario, 5..=6, "x"), None);
    assert_eq!(seqs(pen.tail(), 6, 9999), (Taken::Level, vec![]));
    assert_eq!(seqs(pen.tail(), 4, 9999), (Taken::Older, vec![]));
    pen.publish(7, frames(scenario, 7..=7, "x"), Some(None));
    assert_eq!(seqs(pen.tail(), 6, 9999), (Taken::Frames, vec![7]));
    let position = pen.tail().position().unwrap();
    assert_eq!((position.head, position.open_from), (7, Some(None)));
}

#[test]
fn a_pen_of_a_lost_log_shows_nothing_in_the_next_one() {
    let (_hub, old, scenario) = setup(4);
    let new = old.tail().take_pen(&extent("e2", 1));
    old.publish(5, frames(scenario, 5..=9, "x"), Some(Some(5)));
    let position = new.tail().position().unwrap();
    assert_eq!((&*position.epoch, position.head, position.open_from), ("e2", 1, None));
}
