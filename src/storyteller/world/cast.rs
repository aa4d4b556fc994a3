//! Who plays which part. Made up from the seed alone, so that the state needs to hold only whom the reader has met.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::storyteller::chance::Key;
use crate::storyteller::content::{Address, Band, Pack, Part, Pool};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: Cow<'static, str>,
    pub title: Cow<'static, str>,
    pub pronoun: Pronoun,
    pub goal: Cow<'static, str>,
    /// Which of the part's goals it is.
    pub aim: usize,
    /// Steps taken towards it.
    pub steps: usize,
    /// What has come out.
    pub secret: Option<Cow<'static, str>>,
    pub address: Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pronoun {
    She,
    He,
}

impl Member {
    /// The member in `value`; what a model may have patched in has to be fit to be printed.
    pub fn read(value: &Value, part: &'static Part) -> Option<Self> {
        let marks = ['<', '|', '\n', '{', '}'];
        let text = |key: &str, longest: usize| {
            value.get(key)?.as_str().filter(|text| text.len() <= longest && !text.contains(marks))
        };
        let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or(0) as usize;
        let aim = number("aim");
        let known = part.goal.get(aim).map(|goal| goal.text.as_str());
        Some(Self {
            name: text("name", 80).filter(|name| !name.trim().is_empty())?.to_owned().into(),
            title: own(text("title", 200)?, part.titles.iter().map(String::as_str)),
            pronoun: match value.get("pronoun")?.as_str()? {
                "she" => Pronoun::She,
                "he" => Pronoun::He,
                _ => return None,
            },
            goal: own(text("goal", 200)?, known),
            aim,
            steps: number("steps"),
            secret: text("secret", 200)
                .map(|secret| own(secret, part.secret.iter().map(|known| known.text.as_str()))),
            address: part.address.unwrap_or_default(),
        })
    }

    pub fn write(&self) -> Value {
        let mut value = Map::new();
        let mut put = |key: &str, text: &str| {
            value.insert(key.to_owned(), Value::String(text.to_owned()));
        };
        put("name", &self.name);
        put("title", &self.title);
        put("pronoun", if self.pronoun == Pronoun::She { "she" } else { "he" });
        put("goal", &self.goal);
        if let Some(secret) = &self.secret {
            put("secret", secret);
        }
        if self.aim > 0 {
            value.insert("aim".to_owned(), self.aim.into());
        }
        if self.steps > 0 {
            value.insert("steps".to_owned(), self.steps.into());
        }
        Value::Object(value)
    }

    /// The name by which someone goes who was named before.
    pub fn short(&self) -> &str {
        let mut names = self.name.split(' ');
        let name = match self.address {
            Address::Last => names.next_back(),
            Address::First => names.next(),
        };
        name.unwrap_or(&self.name)
    }
}

/// `text` without a copy when it is one of `known`.
fn own(text: &str, known: impl IntoIterator<Item = &'static str>) -> Cow<'static, str> {
    known
        .into_iter()
        .find(|known| *known == text)
        .map_or_else(|| Cow::Owned(text.to_owned()), Cow::Borrowed)
}

/// A cast drawn from `pool` by the seed.
pub struct Casting {
    key: Key,
    seed: u64,
    band: Band,
    pool: &'static Pool,
    women: usize,
    men: usize,
    families: usize,
    first: usize,
}

impl Casting {
    pub fn new(pool: &'static Pool, band: Band, seed: u64) -> Self {
        let key = Key::new(seed).with("cast");
        Self {
            key,
            seed,
            band,
            pool,
            women: key.with("women").below(pool.women.len()),
            men: key.with("men").below(pool.men.len()),
            families: key.with("families").below(pool.families.len()),
            first: key.with("woman").below(2),
        }
    }

    /// Women and men take turns.
    pub fn member(&self, index: usize, pack: &'static Pack) -> Member {
        let part = &pack.role[index];
        let pick = |list: &'static [String], at: usize| {
            list.get(at % list.len().max(1)).map_or("", String::as_str)
        };
        let (pronoun, given) = if (index + self.first).is_multiple_of(2) {
            (Pronoun::She, pick(&self.pool.women, self.women + index / 2))
        } else {
            (Pronoun::He, pick(&self.pool.men, self.men + index / 2))
        };
        // Whoever comes when the families are used up goes by a given name: no two share the name they go by.
        let family = if index < self.pool.families.len() {
            pick(&self.pool.families, self.families + index)
        } else {
            ""
        };
        let name = if family.is_empty() {
            Cow::Borrowed(given)
        } else {
            Cow::Owned(format!("{given} {family}"))
        };
        let key = self.key.with(&part.key);
        let aim = key.with("aim").below(part.goal.len());
        let fill = |text| pack.words.fill(text, self.band, self.seed);
        Member {
            name,
            title: fill(pick(&part.titles, key.with("title").below(part.titles.len()))),
            pronoun,
            goal: fill(part.goal.get(aim).map_or("", |goal| goal.text.as_str())),
            aim,
            steps: 0,
            secret: None,
            address: part.address.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyteller::content::content;

    #[test]
    fn friends_go_by_their_first_names_and_so_do_children_and_officials_do_not() {
        let short = |pack: &str, role: &str| {
            let content = content("en");
            let pack = content.pack(pack).unwrap();
            let index = pack.role.iter().position(|part| part.key == role).unwrap();
            let pool = content.names.last().unwrap();
            let member = Casting::new(pool, Band::Modern, 5).member(index, pack);
            let (first, last) = member.name.split_once(' ').unwrap();
            [first, last].iter().position(|name| *name == member.short())
        };
        for (pack, role, name) in
            [("personal", "ally", 0), ("nature", "pupil", 0), ("nature", "ally", 1)]
        {
            assert_eq!(short(pack, role), Some(name), "{role} of {pack}");
        }
    }
}
