//! What the calls of a turn have to come to, worked out from what the vendors sent alone, and the purses as they are on disk.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use whatif::domain::budget::{Amount, estimate_tokens};
use whatif::domain::scenario::Usage;
use whatif::domain::turn_format::{MIN_CHOICES, Piece, TurnParser};
use whatif::providers::text::Price;

use super::vendor::{Call, VENDORS};

/// So that a token of the one kind counts as none of the other.
pub const PRICE: Price = Price { input: 1_000_000, cached_input: 1_000_000, output: 1_000_000_000 };

/// How much of a scene's text is the vendors', in bytes.
pub fn by_vendors(scene: &Value) -> usize {
    let authors = scene["authors"].as_array().unwrap();
    let other =
        authors.iter().find(|author| !VENDORS.contains(&author["provider"].as_str().unwrap()));
    match other {
        // What vendors say is ASCII: units are bytes.
        Some(author) => author["off"].as_u64().unwrap() as usize,
        None => scene["text"].as_str().unwrap().len(),
    }
}

/// What a turn's calls come to together: what the vendor says where it could; else what it was sent and what readers have
/// of it; nothing where no word came.
pub fn of(calls: &[&Call], text: &str, by_vendors: usize) -> Amount {
    let mut known: Vec<String> = Vec::new();
    let mut sum = Amount::default();
    for (at, call) in calls.iter().enumerate() {
        let choices = choices(call, &known);
        let usage = if call.whole {
            call.usage
        } else if call.said.is_empty() {
            Usage::default()
        } else {
            let to = calls.get(at + 1).map_or(by_vendors, |next| next.shown.len());
            let prose = if call.prose_done { "" } else { &text[call.shown.len()..to] };
            let offered = choices.iter().map(|(label, hint)| {
                estimate_tokens(label) + hint.as_deref().map_or(0, estimate_tokens)
            });
            let output_tokens = estimate_tokens(prose) + offered.sum::<u64>();
            Usage { input_tokens: call.input_tokens, output_tokens }
        };
        known.extend(choices.into_iter().map(|(label, _)| label));
        let tokens = usage.input_tokens + usage.output_tokens;
        sum = sum.plus(Amount { tokens, micros: PRICE.of(usage, 0) });
    }
    sum
}

/// The choices that this call added to those known.
fn choices(call: &Call, known: &[String]) -> Vec<(String, Option<String>)> {
    let mut found = Vec::new();
    if known.len() >= MIN_CHOICES {
        return found;
    }
    let mut sink = |piece: Piece<'_>| {
        if let Piece::Choice { label, hint } = piece {
            found.push((label, hint));
        }
    };
    let mut parser = match call.prose_done {
        true => TurnParser::choices_only(known.iter().map(String::as_str)),
        false => TurnParser::resumed(call.shown.len()),
    };
    parser.push(&call.said, &mut sink);
    found
}

/// Holds the purses in the data folder of a replica that has stopped against what every turn has to have cost.
pub fn agrees_with(folder: &Path, expected: &HashMap<String, Amount>) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(folder.join("budget.db"), flags).unwrap();
    let left: i64 =
        database.query_row("SELECT count(*) FROM reservations", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "calls that nobody has settled");
    let mut purses: HashMap<String, Vec<(String, Amount)>> = HashMap::new();
    let mut rows = database
        .prepare("SELECT name, tokens, micros, reserved_tokens, reserved_micros FROM purses")
        .unwrap();
    let mut rows = rows.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let number = |at: usize| u64::try_from(row.get::<_, i64>(at).unwrap()).unwrap();
        let name: String = row.get(0).unwrap();
        assert_eq!((number(3), number(4)), (0, 0), "{name}: something is still reserved");
        let (kind, whose) = name.split_once(':').unwrap();
        let spent = Amount { tokens: number(1), micros: number(2) };
        purses.entry(kind.to_owned()).or_default().push((whose.to_owned(), spent));
    }
    let turns: HashMap<_, _> = purses["turn"].iter().cloned().collect();
    for (turn, amount) in expected {
        assert_eq!(turns.get(turn).copied().unwrap_or_default(), *amount, "turn {turn}");
    }
    assert!(turns.keys().all(|turn| expected.contains_key(turn)), "a purse of no turn");
    let all = expected.values().fold(Amount::default(), |sum, amount| sum.plus(*amount));
    for kind in ["turn", "scenario", "user", "day"] {
        let spent = purses[kind].iter().fold(Amount::default(), |sum, (_, spent)| sum.plus(*spent));
        assert_eq!(spent, all, "{kind}");
    }
}
