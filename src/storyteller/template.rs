//! Prose with slots: `{actor}`, `{rival_his}`, `{a:crop}`. Parsed once when the content is loaded; rendering knows the
//! articles, the capitals and how a person is introduced. What the slots hold is the writer's business.

use serde::Deserialize;

/// The parts that every story casts; they are the first of a pack's roles.
pub const CORE_ROLES: [&str; 4] = ["ally", "rival", "power", "witness"];
/// The word lists that every pack has; they are the first of a pack's lists.
pub const SHARED_WORDS: [&str; 11] = [
    "when", "place", "hall", "crowd", "record", "carrier", "sheet", "light", "vehicle", "money",
    "room",
];

/// A part of the pack's cast, by its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(pub u8);

impl Role {
    pub const ALLY: Role = Role(0);
    pub const RIVAL: Role = Role(1);
    pub const POWER: Role = Role(2);
    pub const WITNESS: Role = Role(3);
    /// Most roles of a pack.
    pub const MOST: usize = 16;

    pub const fn index(self) -> usize {
        self.0 as usize
    }

    pub const fn bit(self) -> u16 {
        1 << self.0
    }

    /// One of the four that every story has.
    pub const fn is_core(self) -> bool {
        self.index() < CORE_ROLES.len()
    }
}

/// How a cast member is named in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Name,
    He,
    Him,
    His,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// Whom or what the prompt is about.
    Actor,
    /// The prompt's "what if" as a statement without a full stop.
    Premise,
    /// The prompt's own words, for quotation.
    Words,
    /// What the reader just said, for quotation.
    Said,
    /// A name out of the text or words at hand.
    Subject,
    Cast(Role, Case),
    /// Whom of the cast the reader's words name.
    Target(Case),
    /// One of the pack's word lists, by its number; the same word all through a story.
    Word(u8),
    /// Not known yet, or to nobody.
    Named(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(Box<str>),
    Slot { slot: Slot, article: bool },
}

/// One passage: whole sentences, one paragraph or less.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    pub pieces: Vec<Piece>,
    /// Words between the slots.
    words: usize,
    /// What a story remembers it by: 24 bits of a hash of its source.
    pub code: u32,
    /// Whether it says what the prompt is about.
    pub names_actor: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    #[error("unclosed slot in {0:?}")]
    Unclosed(String),
    #[error("empty passage")]
    Empty,
}

/// What a template needs to become text.
pub trait Fill {
    /// The slot's text in the middle of a sentence. `next` is the character that follows it.
    fn fill(&mut self, slot: &Slot, next: &str, out: &mut String);

    /// What stands before `text` where the passage asks for an indefinite article, if the language has any.
    fn article(&self, text: &str) -> Option<&'static str>;

    /// About how many words `fill` will write.
    fn words(&self, slot: &Slot) -> usize;
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(source: String) -> Result<Self, TemplateError> {
        let source = source.split_whitespace().collect::<Vec<_>>().join(" ");
        if source.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut pieces = Vec::new();
        let mut rest = source.as_str();
        while let Some((text, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(TemplateError::Unclosed(source));
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(text.into()));
            }
            let (article, name) =
                name.strip_prefix("a:").map_or((false, name), |name| (true, name));
            pieces.push(Piece::Slot { slot: slot(name), article });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        let words = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => count_words(text),
                Piece::Slot { article, .. } => usize::from(*article),
            })
            .sum();
        let names_actor = pieces.iter().any(|piece| {
            matches!(piece, Piece::Slot { slot: Slot::Actor | Slot::Premise | Slot::Words, .. })
        });
        Ok(Self { pieces, words, code: code(&source), names_actor })
    }
}

fn code(source: &str) -> u32 {
    // FNV-1a, folded.
    let hash = source.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash ^ (hash >> 24) ^ (hash >> 48)) & 0xff_ffff) as u32
}

fn slot(name: &str) -> Slot {
    match name {
        "actor" => return Slot::Actor,
        "premise" => return Slot::Premise,
        "words" => return Slot::Words,
        "said" => return Slot::Said,
        "subject" => return Slot::Subject,
        "target" => return Slot::Target(Case::Name),
        "target_he" => return Slot::Target(Case::He),
        "target_him" => return Slot::Target(Case::Him),
        "target_his" => return Slot::Target(Case::His),
        _ => {}
    }
    Slot::Named(name.into())
}

/// What a name means where these are the roles and the word lists.
fn known(name: &str, roles: &[String], words: &[String]) -> Option<Slot> {
    let role = |key: &str| roles.iter().position(|role| role == key).map(|at| Role(at as u8));
    if let Some(role) = role(name) {
        return Some(Slot::Cast(role, Case::Name));
    }
    if let Some((key, case)) = name.rsplit_once('_')
        && let Some(role) = role(key)
    {
        match case {
            "he" => return Some(Slot::Cast(role, Case::He)),
            "him" => return Some(Slot::Cast(role, Case::Him)),
            "his" => return Some(Slot::Cast(role, Case::His)),
            _ => {}
        }
    }
    words.iter().position(|word| word == name).map(|at| Slot::Word(at as u8))
}

impl Template {
    /// Gives the slots their meaning; what neither a role nor a word list is called stays as it is.
    pub fn resolve(&mut self, roles: &[String], words: &[String]) {
        for piece in &mut self.pieces {
            if let Piece::Slot { slot, .. } = piece
                && let Slot::Named(name) = slot
                && let Some(known) = known(name, roles, words)
            {
                *slot = known;
            }
        }
    }

    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Slot { slot, .. } => Some(slot),
        })
    }

    /// Whether a member of the cast is in it.
    pub fn names(&self, role: Role) -> bool {
        self.slots().any(|slot| matches!(slot, Slot::Cast(named, _) if *named == role))
    }

    /// Whether `word` stands between the slots, whatever its ending.
    pub fn mentions(&self, word: &str) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if text.contains(word)))
    }

    pub fn words(&self, fill: &impl Fill) -> usize {
        self.words + self.slots().map(|slot| fill.words(slot)).sum::<usize>()
    }

    /// Whether `text` holds everything that stands between the slots, in order.
    pub fn could_be(&self, text: &str) -> bool {
        let mut rest = text;
        self.pieces.iter().all(|piece| match piece {
            Piece::Slot { .. } => true,
            Piece::Text(piece) => match rest.split_once(&**piece) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            },
        })
    }

    pub fn render(&self, fill: &mut impl Fill, out: &mut String) {
        for (index, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Slot { slot, article } => {
                    let next = match self.pieces.get(index + 1) {
                        Some(Piece::Text(text)) => text,
                        _ => "",
                    };
                    let capital = starts_sentence(out);
                    let start = out.len();
                    fill.fill(slot, next, out);
                    if *article && let Some(word) = fill.article(&out[start..]) {
                        out.insert(start, ' ');
                        out.insert_str(start, word);
                    }
                    if capital {
                        capitalise(out, start);
                    }
                }
            }
        }
    }
}

/// Whether the next character written to `out` begins a sentence.
fn starts_sentence(out: &str) -> bool {
    let before = out.trim_end_matches(['“', '‘']);
    let spaced = before.trim_end();
    if spaced.is_empty() || before.ends_with('\n') {
        return true;
    }
    // After “Where?” goes "he asked"; speech that ends in a full stop has no such tail.
    spaced.len() < before.len()
        && (spaced.ends_with(['.', '!', '?', '…'])
            || spaced.ends_with(".”")
            || spaced.ends_with("…”"))
}

fn capitalise(out: &mut String, start: usize) {
    if let Some(first) = out[start..].chars().next()
        && first.is_lowercase()
    {
        let upper: String = first.to_uppercase().collect();
        out.replace_range(start..start + first.len_utf8(), &upper);
    }
}

pub fn count_words(text: &str) -> usize {
    text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Fill for Fixed {
        fn fill(&mut self, slot: &Slot, _: &str, out: &mut String) {
            out.push_str(match slot {
                Slot::Actor => "the owls",
                Slot::Named(_) => "orchard",
                _ => "x",
            });
        }
        fn article(&self, text: &str) -> Option<&'static str> {
            Some(crate::storyteller::grammar::indefinite(text))
        }
        fn words(&self, _: &Slot) -> usize {
            1
        }
    }

    fn rendered(source: &str) -> String {
        let mut out = String::new();
        Template::try_from(source.to_owned()).unwrap().render(&mut Fixed, &mut out);
        out
    }

    #[test]
    fn slots_take_capitals_and_articles_from_their_place() {
        for (source, text) in [
            ("{actor} flew.", "The owls flew."),
            ("Night. {actor} flew past {a:field}.", "Night. The owls flew past an orchard."),
            ("He said: “{actor} flew.”", "He said: “the owls flew.”"),
            ("“Where?” {actor} cried.", "“Where?” the owls cried."),
            ("“There.” {actor} flew.", "“There.” The owls flew."),
        ] {
            assert_eq!(rendered(source), text, "{source}");
        }
        assert!(Template::try_from("no {end".to_owned()).is_err());
    }
}
