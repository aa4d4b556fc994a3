//! The world state: what the story knows between scenes. It travels in the scenario's state object and nowhere else,
//! so that any replica can go on from a stored scene.
//!
//! The object may also have been patched by a language model: each key is read by itself, and whatever does not read
//! is set up anew from the prompt and the seed.

pub mod cast;
pub mod memory;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::cast::Casting;
pub use self::cast::{Member, Pronoun};
use self::memory::Memory;
use super::chance::Key;
use super::content::{Band, Content, Effects, Need, Pack, Pressure, Scale};
use super::prompt::{Operator, Prompt, tame};
use super::say::MAX_SAID;
use super::subject::Subject;
use super::template::Role;
use crate::domain::patch::{self, Object};

/// Most flags and promises kept, so that the state stays small however long a story gets.
const MAX_FLAGS: usize = 24;
const MAX_PROMISES: usize = 8;
const MAX_KEY: usize = 60;

/// A choice whose late consequence is still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// `storylet.index`, or `say`.
    pub from: String,
    /// The turn from which on it is due.
    pub due: u32,
    /// The reader's own words, fit to be quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

/// Bookkeeping that means nothing to other writers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Thread {
    pub pack: String,
    /// The storylet, ending or opening whose choices were offered; empty when they were somebody else's.
    pub at: String,
    /// Turns since the present book began, this one included.
    pub arc: u32,
    /// Who has been introduced.
    pub met: u16,
    /// The age it plays in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub band: Option<Band>,
    /// Whose names the cast has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub people: Option<usize>,
    /// What the prompt is about, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Scenes since the last one that said what the prompt is about.
    pub unnamed: u32,
    /// The turns of the last callback, of the last cause that acted, and of the last secret that came out.
    pub paid: u32,
    pub acted: u32,
    pub bared: u32,
    /// Secrets that came out in this book.
    pub secrets: u32,
    pub promises: Vec<Promise>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct World {
    pub turn: u32,
    pub act: u8,
    pub book: u32,
    pub tension: u8,
    pub ended: bool,
    pub ending: Option<String>,
    /// In the pack's order.
    pub pressures: Vec<(&'static str, u8)>,
    pub flags: Vec<String>,
    /// In the pack's order, the unmet included.
    pub cast: Vec<Member>,
    pub story: Thread,
    pub told: Memory,
    pub band: Band,
}

impl World {
    /// The world in `state`, with whatever is missing or damaged made up from the prompt and the seed.
    pub fn read(
        state: &Object,
        prompt: &Prompt,
        seed: u64,
        content: &'static Content,
    ) -> (Self, &'static Pack) {
        let mut story: Thread = field(state, "story").unwrap_or_default();
        let pack = content.pack(&story.pack).unwrap_or_else(|| content.pack_for(&prompt.words));
        if story.band.is_none() || story.pack != pack.id {
            story.subject = Subject::of(prompt, content);
            let of_subject = story.subject.as_ref().and_then(|subject| subject.band(content));
            story.band = Some(prompt.year.map(Band::of).or(of_subject).unwrap_or(pack.era));
            story.people = Some(content.names_for(&prompt.words));
        }
        story.pack.clone_from(&pack.id);
        story.promises.truncate(MAX_PROMISES);
        story.promises.retain(|promise| {
            let said = promise.said.as_deref().unwrap_or("…");
            promise.from.len() <= MAX_KEY && !said.is_empty() && tame(said, MAX_SAID + 1) == said
        });
        story.met &= (1 << pack.role.len()) - 1;
        let people = story.people.unwrap_or(usize::MAX).min(content.names.len() - 1);
        let mut flags: Vec<String> = field(state, "flags").unwrap_or_default();
        flags.truncate(MAX_FLAGS);
        flags.retain(|flag| flag.len() <= MAX_KEY);
        let kept = state.get("pressures").and_then(Value::as_object);
        let pressures = pack
            .pressure
            .iter()
            .map(|pressure| {
                let kept = kept.and_then(|kept| kept.get(&pressure.key)).and_then(Value::as_f64);
                let level = kept.map_or_else(
                    || opening_level(pressure, prompt, seed),
                    |level| level.clamp(0.0, 100.0) as u8,
                );
                (pressure.key.as_str(), level)
            })
            .collect();
        let band = story.band.unwrap_or(pack.era);
        let told = Memory::read(state.get("story").and_then(|story| story.get("told")));
        let world = Self {
            turn: field(state, "turn").unwrap_or(0),
            act: field(state, "act").unwrap_or(1).clamp(1, 3),
            book: field(state, "book").unwrap_or(1).max(1),
            tension: field(state, "tension").unwrap_or(20).min(100),
            ended: field(state, "ended").unwrap_or(false),
            ending: field(state, "ending"),
            pressures,
            flags,
            cast: read_cast(state, pack, Casting::new(&content.names[people], band, seed)),
            band,
            story,
            told,
        };
        (world, pack)
    }

    /// The patch that writes this world over `state`.
    pub fn patch(&self, state: &Object, pack: &Pack) -> Object {
        let mut changes = Map::new();
        let mut put = |key: &str, now: Value| {
            let change = match (state.get(key), now) {
                (Some(was), now) if *was == now => return,
                (Some(Value::Object(was)), Value::Object(now)) => {
                    Value::Object(patch::diff(was, &now))
                }
                (_, now) => now,
            };
            changes.insert(key.to_owned(), change);
        };
        put("turn", self.turn.into());
        put("act", self.act.into());
        put("book", self.book.into());
        put("tension", self.tension.into());
        let pressures: Map<String, Value> = self
            .pressures
            .iter()
            .map(|(key, level)| ((*key).to_owned(), (*level).into()))
            .collect();
        put("pressures", Value::Object(pressures));
        put("flags", self.flags.iter().map(String::as_str).collect());
        let mut cast = Map::new();
        for (index, (member, part)) in self.cast.iter().zip(&pack.role).enumerate() {
            let role = Role(index as u8);
            if role.is_core() || self.has_met(role) {
                cast.insert(part.key.clone(), member.write());
            }
        }
        put("cast", Value::Object(cast));
        // Strings, numbers and lists of them always serialise.
        let mut story = serde_json::to_value(&self.story).unwrap_or_default();
        story["told"] = self.told.write();
        put("story", story);
        match &self.ending {
            Some(ending) if self.ended => {
                put("ended", Value::Bool(true));
                put("ending", Value::String(ending.clone()));
            }
            _ => {
                for key in ["ended", "ending"].into_iter().filter(|key| state.contains_key(*key)) {
                    changes.insert(key.to_owned(), Value::Null);
                }
            }
        }
        changes
    }

    pub fn level(&self, pressure: &str) -> u8 {
        self.pressures.iter().find(|(key, _)| *key == pressure).map_or(50, |(_, level)| *level)
    }

    pub fn apply(&mut self, effects: &Effects) {
        for (key, change) in effects {
            if let Some((_, level)) = self.pressures.iter_mut().find(|(known, _)| known == key) {
                *level = (i16::from(*level) + change).clamp(0, 100) as u8;
            }
        }
    }

    pub fn raise(&mut self, flags: &[String]) {
        for flag in flags {
            if !self.flags.contains(flag) {
                if self.flags.len() == MAX_FLAGS {
                    self.flags.remove(0);
                }
                self.flags.push(flag.clone());
            }
        }
    }

    pub fn promise(&mut self, promise: Promise) {
        let known = |other: &Promise| other.from == promise.from && other.said == promise.said;
        if self.story.promises.iter().any(known) {
            return;
        }
        if self.story.promises.len() == MAX_PROMISES {
            self.story.promises.remove(0);
        }
        self.story.promises.push(promise);
    }

    pub fn meets(&self, need: &Need) -> bool {
        match need {
            Need::Below(key, bound) => self.level(key) < *bound,
            Need::Above(key, bound) => self.level(key) > *bound,
            Need::Flag(flag) => self.flags.contains(flag),
            Need::NoFlag(flag) => !self.flags.contains(flag),
        }
    }

    pub fn has_met(&self, role: Role) -> bool {
        self.story.met & role.bit() != 0
    }

    /// How far the worst and the mean pressure are from rest, and how late in the arc it is.
    pub fn feel(&mut self, pack: &Pack) {
        let stress = |pressure: &Pressure| match pressure.bad {
            Scale::High => u32::from(self.level(&pressure.key)),
            Scale::Low => 100 - u32::from(self.level(&pressure.key)),
        };
        let (mut worst, mut sum) = (0, 0);
        for pressure in &pack.pressure {
            let stress = stress(pressure);
            worst = worst.max(stress);
            sum += stress;
        }
        let mean = sum / pack.pressure.len().max(1) as u32;
        let curve = if self.ended { 0 } else { (self.story.arc * 9).min(100) };
        self.tension = ((worst * 2 + mean + curve * 2) / 5).min(100) as u8;
    }
}

fn field<'s, T: Deserialize<'s>>(state: &'s Object, key: &str) -> Option<T> {
    T::deserialize(state.get(key)?).ok()
}

fn read_cast(state: &Object, pack: &'static Pack, casting: Casting) -> Vec<Member> {
    let kept = state.get("cast").and_then(Value::as_object);
    (0..pack.role.len())
        .map(|index| {
            let part = &pack.role[index];
            kept.and_then(|cast| cast.get(&part.key))
                .and_then(|member| Member::read(member, part))
                .unwrap_or_else(|| casting.member(index, pack))
        })
        .collect()
}

fn opening_level(pressure: &Pressure, prompt: &Prompt, seed: u64) -> u8 {
    let worse: i16 = match prompt.operator {
        Operator::Vanished | Operator::Lost => 9,
        Operator::Never | Operator::Instead => 4,
        Operator::Won | Operator::Discovered | Operator::Survived => -4,
        Operator::Always | Operator::Could | Operator::Other | Operator::Quoted => 0,
    };
    let sway = Key::new(seed).with("start").with(&pressure.key).below(15) as i16 - 7;
    let worse = if pressure.bad == Scale::High { worse } else { -worse };
    (i16::from(pressure.start) + worse + sway).clamp(5, 95) as u8
}
