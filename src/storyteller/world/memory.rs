//! What was told. A passage is known by its code, so that neither the order of the content's files nor a new passage
//! among old ones makes a story repeat itself. In the state it is one short string for each turn, and only the
//! newest turns are kept: the state stays small however long a story gets, and what was told long ago may be told
//! again.

use serde_json::{Map, Value};

use crate::storyteller::template::Template;

/// Turns that are remembered.
const TURNS: usize = 32;
/// Most passages of a turn.
const MAX_OF_TURN: usize = 24;
/// A code is four characters of six bits.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// Oldest first, the code of each passage.
    turns: Vec<(u32, Vec<u32>)>,
    /// All codes, in order.
    codes: Vec<u32>,
}

impl Memory {
    pub fn read(value: Option<&Value>) -> Self {
        let mut memory = Self::default();
        let Some(Value::Object(told)) = value else { return memory };
        for (turn, codes) in told {
            let (Ok(turn), Some(codes)) = (turn.parse(), codes.as_str()) else { continue };
            let codes: Vec<u32> =
                codes.as_bytes().chunks_exact(4).take(MAX_OF_TURN).filter_map(decode).collect();
            memory.codes.extend(&codes);
            memory.turns.push((turn, codes));
        }
        memory.turns.sort_unstable_by_key(|(turn, _)| *turn);
        memory.codes.sort_unstable();
        memory
    }

    pub fn write(&self) -> Value {
        let newest = self.turns.len().saturating_sub(TURNS);
        let told: Map<String, Value> = self.turns[newest..]
            .iter()
            .map(|(turn, codes)| {
                let mut text = String::with_capacity(codes.len() * 4);
                codes.iter().for_each(|code| encode(*code, &mut text));
                (turn.to_string(), Value::String(text))
            })
            .collect();
        Value::Object(told)
    }

    pub fn has(&self, template: &Template) -> bool {
        self.codes.binary_search(&template.code).is_ok()
    }

    pub fn add(&mut self, turn: u32, template: &Template) {
        let Err(at) = self.codes.binary_search(&template.code) else { return };
        self.codes.insert(at, template.code);
        match self.turns.last_mut() {
            Some((last, codes)) if *last == turn => codes.push(template.code),
            _ => self.turns.push((turn, vec![template.code])),
        }
    }

    /// How many of `templates` were told.
    pub fn count(&self, templates: &[Template]) -> usize {
        templates.iter().filter(|template| self.has(template)).count()
    }
}

fn encode(code: u32, out: &mut String) {
    for shift in [18, 12, 6, 0] {
        out.push(char::from(LETTERS[(code >> shift & 63) as usize]));
    }
}

fn decode(letters: &[u8]) -> Option<u32> {
    letters.iter().try_fold(0, |code, letter| {
        let bits = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        Some(code << 6 | u32::from(bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(number: u32) -> Template {
        Template::try_from(format!("Passage {number}.")).unwrap()
    }

    #[test]
    fn what_was_told_is_remembered_for_a_while() {
        let mut memory = Memory::default();
        for turn in 1..=40 {
            memory.add(turn, &template(turn));
        }
        let memory = Memory::read(Some(&memory.write()));
        assert!(memory.has(&template(40)) && memory.has(&template(9)));
        assert!(!memory.has(&template(8)), "older than the newest {TURNS} turns");
        assert_eq!(memory.count(&[template(40), template(8), template(99)]), 1);
        assert_eq!(Memory::read(Some(&memory.write())), memory);
    }

    #[test]
    fn what_does_not_read_is_left_out() {
        let value = serde_json::json!({"1": "AAAB", "x": "AAAC", "2": 7, "3": "A*ACAAADA"});
        let memory = Memory::read(Some(&value));
        assert_eq!(memory.codes, [1, 3]);
    }
}
