//! The world state: what the story knows between scenes. It travels in the scenario's state object and nowhere else,
//! so that any replica can go on from a stored scene.
//!
//! The object may also have been patched by a language model: each key is read by itself, and whatever does not read
//! is set up anew from the seed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chance::Key;
use super::content::{Content, Effects, Need, Pack, Scale};
use super::prompt::{Operator, Prompt};
use crate::domain::patch::Object;

/// Most flags and promises kept, so that the state stays small however long a story gets.
const MAX_FLAGS: usize = 24;
const MAX_PROMISES: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub title: String,
    pub pronoun: Pronoun,
    pub goal: String,
    /// Which of the part's goals it is.
    #[serde(default)]
    pub aim: usize,
    /// Steps taken towards it.
    #[serde(default)]
    pub steps: usize,
}

impl Member {
    /// Fit to be printed; the state may have been patched by a model.
    fn is_sound(&self) -> bool {
        let marks = ['<', '|', '\n', '{'];
        !self.name.trim().is_empty()
            && [&self.name, &self.title]
                .iter()
                .all(|text| text.len() <= 80 && !text.contains(marks))
            && self.goal.len() <= 200
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pronoun {
    She,
    He,
}

/// A choice whose late consequence is still to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// `storylet.index`.
    pub from: String,
    /// The turn from which on it is due.
    pub due: u32,
}

/// Bookkeeping that means nothing to other writers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Thread {
    pub pack: String,
    /// The storylet, ending or opening whose choices were offered; empty when they were somebody else's.
    #[serde(default)]
    pub at: String,
    /// Turns since the present book began, this one included.
    #[serde(default)]
    pub arc: u32,
    /// Who has been introduced.
    #[serde(default)]
    pub met: u16,
    /// Passages told, a bit each, by pool.
    #[serde(default)]
    pub told: BTreeMap<String, u64>,
    #[serde(default)]
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
    pub pressures: BTreeMap<String, u8>,
    pub flags: Vec<String>,
    pub cast: BTreeMap<String, Member>,
    pub story: Thread,
}

impl World {
    /// The world in `state`, with whatever is missing or damaged made up from the prompt and the seed.
    pub fn read(
        state: &Object,
        prompt: &Prompt,
        seed: u64,
        content: &'static Content,
    ) -> (Self, &'static Pack) {
        let story: Thread = field(state, "story").unwrap_or_default();
        let pack = content.pack(&story.pack).unwrap_or_else(|| content.pack_for(&prompt.words));
        let mut world = Self {
            turn: field(state, "turn").unwrap_or(0),
            act: field(state, "act").unwrap_or(1).clamp(1, 3),
            book: field(state, "book").unwrap_or(1).max(1),
            tension: field(state, "tension").unwrap_or(20).min(100),
            ended: field(state, "ended").unwrap_or(false),
            ending: field(state, "ending"),
            pressures: BTreeMap::new(),
            flags: field(state, "flags").unwrap_or_default(),
            cast: BTreeMap::new(),
            story,
        };
        world.flags.truncate(MAX_FLAGS);
        world.flags.retain(|flag: &String| flag.len() <= 40);
        world.story.promises.truncate(MAX_PROMISES);
        world.story.told.retain(|pool, _| pool.len() <= 40);
        world.story.pack.clone_from(&pack.id);
        let pressures = state.get("pressures").and_then(Value::as_object);
        for pressure in &pack.pressure {
            let kept = pressures.and_then(|kept| kept.get(&pressure.key)).and_then(Value::as_f64);
            let level = kept.map_or_else(
                || opening_level(pressure.start, pressure.bad, prompt, seed, &pressure.key),
                |level| level.clamp(0.0, 100.0) as u8,
            );
            world.pressures.insert(pressure.key.clone(), level);
        }
        let cast = state.get("cast").and_then(Value::as_object);
        for part in &pack.role {
            let kept = cast.and_then(|cast| cast.get(part.key.as_str()));
            if let Some(member) =
                kept.and_then(|member| Member::deserialize(member).ok()).filter(Member::is_sound)
            {
                world.cast.insert(part.key.as_str().to_owned(), member);
            }
        }
        if world.cast.len() < pack.role.len() {
            for (role, member) in new_cast(pack, prompt, seed, content) {
                world.cast.entry(role).or_insert(member);
            }
        }
        (world, pack)
    }

    /// `state` with this world written over it.
    pub fn write(&self, state: &Object) -> Object {
        let mut after = state.clone();
        let mut put = |key: &str, value: serde_json::Result<Value>| {
            // Strings, numbers and string-keyed maps always serialise.
            if let Ok(value) = value {
                after.insert(key.to_owned(), value);
            }
        };
        put("turn", serde_json::to_value(self.turn));
        put("act", serde_json::to_value(self.act));
        put("book", serde_json::to_value(self.book));
        put("tension", serde_json::to_value(self.tension));
        put("pressures", serde_json::to_value(&self.pressures));
        put("flags", serde_json::to_value(&self.flags));
        put("cast", serde_json::to_value(&self.cast));
        put("story", serde_json::to_value(&self.story));
        match &self.ending {
            Some(ending) if self.ended => {
                after.insert("ended".to_owned(), Value::Bool(true));
                after.insert("ending".to_owned(), Value::String(ending.clone()));
            }
            _ => {
                after.remove("ended");
                after.remove("ending");
            }
        }
        after
    }

    pub fn level(&self, pressure: &str) -> u8 {
        self.pressures.get(pressure).copied().unwrap_or(50)
    }

    pub fn apply(&mut self, effects: &Effects) {
        for (key, change) in effects {
            if let Some(level) = self.pressures.get_mut(key) {
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

    pub fn promise(&mut self, from: String, due: u32) {
        if self.story.promises.len() < MAX_PROMISES
            && !self.story.promises.iter().any(|promise| promise.from == from)
        {
            self.story.promises.push(Promise { from, due });
        }
    }

    pub fn meets(&self, need: &Need) -> bool {
        match need {
            Need::Below(key, bound) => self.level(key) < *bound,
            Need::Above(key, bound) => self.level(key) > *bound,
            Need::Flag(flag) => self.flags.contains(flag),
            Need::NoFlag(flag) => !self.flags.contains(flag),
        }
    }

    /// How far the worst and the mean pressure are from rest, and how late in the arc it is.
    pub fn feel(&mut self, pack: &Pack) {
        let stress = |key: &str, bad: Scale| match bad {
            Scale::High => u32::from(self.level(key)),
            Scale::Low => 100 - u32::from(self.level(key)),
        };
        let levels: Vec<u32> =
            pack.pressure.iter().map(|pressure| stress(&pressure.key, pressure.bad)).collect();
        let worst = levels.iter().copied().max().unwrap_or(50);
        let mean = levels.iter().sum::<u32>() / levels.len().max(1) as u32;
        let curve = if self.ended { 0 } else { (self.story.arc * 9).min(100) };
        self.tension = ((worst * 2 + mean + curve * 2) / 5).min(100) as u8;
    }

    pub fn told(&self, pool: &str) -> u64 {
        self.story.told.get(pool).copied().unwrap_or(0)
    }

    pub fn tell(&mut self, pool: &str, index: usize) {
        let bit = 1_u64 << index.min(51);
        match self.story.told.get_mut(pool) {
            Some(mask) => *mask |= bit,
            None => {
                self.story.told.insert(pool.to_owned(), bit);
            }
        }
    }

    /// A passage of `pool` not told yet, near where `key` points; `None` when all are.
    pub fn untold(&self, pool: &str, len: usize, key: Key) -> Option<usize> {
        let told = self.told(pool);
        let start = key.with(pool).below(len);
        (0..len).map(|step| (start + step) % len).find(|index| told & (1 << (*index).min(51)) == 0)
    }
}

fn field<T: serde::de::DeserializeOwned>(state: &Object, key: &str) -> Option<T> {
    T::deserialize(state.get(key)?).ok()
}

fn opening_level(start: u8, bad: Scale, prompt: &Prompt, seed: u64, key: &str) -> u8 {
    let worse: i16 = match prompt.operator {
        Operator::Vanished | Operator::Lost => 9,
        Operator::Never | Operator::Instead => 4,
        Operator::Won | Operator::Discovered | Operator::Survived => -4,
        Operator::Always | Operator::Could | Operator::Other | Operator::Quoted => 0,
    };
    let sway = Key::new(seed).with("start").with(key).below(15) as i16 - 7;
    let worse = if bad == Scale::High { worse } else { -worse };
    (i16::from(start) + worse + sway).clamp(5, 95) as u8
}

fn new_cast(pack: &Pack, prompt: &Prompt, seed: u64, content: &Content) -> Vec<(String, Member)> {
    let pool = content.names_for(&prompt.words);
    let key = Key::new(seed).with("cast");
    let first = key.with("woman").below(2);
    let (mut women, mut men) =
        (key.with("women").below(pool.women.len()), key.with("men").below(pool.men.len()));
    let family = key.with("families").below(pool.families.len());
    pack.role
        .iter()
        .enumerate()
        .map(|(index, part)| {
            let (pronoun, given) = if (index + first).is_multiple_of(2) {
                women += 1;
                (Pronoun::She, &pool.women[women % pool.women.len()])
            } else {
                men += 1;
                (Pronoun::He, &pool.men[men % pool.men.len()])
            };
            let family = &pool.families[(family + index) % pool.families.len()];
            let name = if family.is_empty() { given.clone() } else { format!("{given} {family}") };
            let part_key = key.with(part.key.as_str());
            let aim = part_key.with("aim").below(part.goal.len());
            let title = part.titles[part_key.with("title").below(part.titles.len())].clone();
            (
                part.key.clone(),
                Member { name, title, pronoun, goal: part.goal[aim].text.clone(), aim, steps: 0 },
            )
        })
        .collect()
}
