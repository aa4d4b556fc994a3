//! Joins the files of a pack, and gives the slots of its passages their meaning: who is cast, which words it has.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::walk::Walk;
use super::{
    Band, Common, Effects, Files, Pack, PackFile, PeriodFile, TopicFile, VoiceFile, WordLists,
};
use crate::storyteller::chance::Key;
use crate::storyteller::template::{CORE_ROLES, SHARED_WORDS};

/// A pack's word lists, by the number that slots know them by and by age.
#[derive(Debug, Default)]
pub struct Lexicon {
    names: Vec<String>,
    lists: [Vec<Vec<String>>; 3],
}

impl Lexicon {
    /// `lists` serve every age, unless the age has a list of that name.
    pub fn new(lists: WordLists, of_age: [WordLists; 3]) -> Self {
        let mut names: Vec<String> = SHARED_WORDS.map(str::to_owned).into();
        for name in lists.keys().chain(of_age.iter().flat_map(BTreeMap::keys)) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let lists = of_age.map(|of_age| {
            names
                .iter()
                .map(|name| {
                    of_age.get(name).or_else(|| lists.get(name)).cloned().unwrap_or_default()
                })
                .collect()
        });
        Self { names, lists }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The word that a story of this seed keeps to.
    pub fn word(&self, band: Band, word: u8, seed: u64) -> &str {
        let list = self.list(band, word);
        let key = Key::new(seed).with("word").at(u64::from(word));
        list.get(key.below(list.len())).map_or("", String::as_str)
    }

    /// A title or another short text with its words put in.
    pub fn fill<'t>(&self, text: &'t str, band: Band, seed: u64) -> Cow<'t, str> {
        if !text.contains('{') {
            return Cow::Borrowed(text);
        }
        let mut out = text.to_owned();
        for (at, name) in self.names.iter().enumerate() {
            let slot = format!("{{{name}}}");
            if out.contains(&slot) {
                out = out.replace(&slot, self.word(band, at as u8, seed));
            }
        }
        Cow::Owned(out)
    }

    /// Empty when the age has no such words.
    pub fn list(&self, band: Band, word: u8) -> &[String] {
        self.lists[band as usize].get(usize::from(word)).map_or(&[], Vec::as_slice)
    }
}

impl PackFile {
    /// The lists of this pack; what is in them is left empty.
    pub fn take_words(&mut self) -> Lexicon {
        Lexicon::new(
            std::mem::take(&mut self.words),
            [
                std::mem::take(&mut self.words_old),
                std::mem::take(&mut self.words_industrial),
                std::mem::take(&mut self.words_modern),
            ],
        )
    }
}

/// Decisions of a usual book.
const DECISIONS: f32 = 8.0;

impl Files {
    /// Each pressure's start, and what as many decisions as a book has move it in the mean.
    fn find_rest(&mut self) {
        let files = [&self.early, &self.middle, &self.late, &self.papers];
        let storylets: Vec<_> = files.into_iter().flat_map(|file| &file.storylet).collect();
        let mean = |key: &str| {
            let of_choices = storylets.iter().map(|storylet| {
                let moved = storylet.choice.iter().map(|offer| points(&offer.effects, key));
                moved.sum::<f32>() / storylet.choice.len().max(1) as f32
            });
            let of_storylets = storylets.iter().map(|storylet| points(&storylet.effects, key));
            of_choices.chain(of_storylets).sum::<f32>() / storylets.len().max(1) as f32
        };
        let rests: Vec<f32> = self
            .pack
            .pressure
            .iter()
            .map(|pressure| f32::from(pressure.start) + DECISIONS * mean(&pressure.key))
            .collect();
        for (pressure, rest) in self.pack.pressure.iter_mut().zip(rests) {
            pressure.rest = rest.clamp(15.0, 85.0);
        }
    }

    pub fn join(mut self) -> Pack {
        let rank =
            |key: &str| CORE_ROLES.iter().position(|core| *core == key).unwrap_or(usize::MAX);
        // A stable sort: the pack's own roles keep their order.
        self.cast.role.sort_by_key(|part| rank(&part.key));
        for part in &mut self.cast.role {
            part.address.get_or_insert(self.cast.address);
        }
        let words = self.pack.take_words();
        let roles: Vec<String> = self.cast.role.iter().map(|part| part.key.clone()).collect();
        self.walk(&mut |_, template| template.resolve(&roles, words.names()));
        self.find_rest();
        let Files { pack, cast, early, middle, late, papers, endings } = self;
        let of_age = [pack.details_old, pack.details_industrial, pack.details_modern];
        let details = of_age.map(|of_age| pack.details.iter().cloned().chain(of_age).collect());
        let mut storylet = early.storylet;
        storylet.extend(middle.storylet);
        storylet.extend(late.storylet);
        storylet.extend(papers.storylet);
        Pack {
            id: pack.id,
            era: pack.era,
            details,
            harsh: pack.harsh,
            gentle: pack.gentle,
            pressure: pack.pressure,
            cause: pack.cause,
            words,
            intents: pack.intents,
            role: cast.role,
            opening: pack.opening,
            storylet,
            ending: endings.ending,
            sequel: pack.sequel,
        }
    }
}

fn points(effects: &Effects, key: &str) -> f32 {
    effects.get(key).map_or(0.0, |change| f32::from(*change))
}

/// Passages that any pack uses know the roles and the words that every pack has.
fn shared(file: &mut impl Walk) {
    let (roles, words) = (CORE_ROLES.map(str::to_owned), SHARED_WORDS.map(str::to_owned));
    file.walk(&mut |_, template| template.resolve(&roles, &words));
}

impl Common {
    pub fn resolve(&mut self) {
        shared(self);
    }
}

impl VoiceFile {
    pub fn resolve(&mut self) {
        shared(self);
    }
}

impl TopicFile {
    pub fn resolve(&mut self) {
        shared(self);
    }
}

impl PeriodFile {
    pub fn resolve(&mut self) {
        shared(self);
    }
}
