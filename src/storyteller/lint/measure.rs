//! How much of everything a pack has to have, and how long passages are. A pack that is short of it repeats itself
//! or leaves a story without a turn to take.

use crate::storyteller::content::walk::Kind;

/// What a pack has to have.
pub struct Measure {
    pub pressures: usize,
    /// Lines for each end of each pressure.
    pub pressure_lines: usize,
    pub causes: usize,
    pub roles: usize,
    /// Moves of each goal of the four that every pack has, and of the others.
    pub moves: (usize, usize),
    /// Situations, by file: early, middle, late, papers.
    pub storylets: [usize; 4],
    pub storylets_in_all: usize,
    /// Situations in each age, and of each age alone.
    pub of_age: usize,
    pub of_age_alone: usize,
    /// Forms besides the chronicle.
    pub forms: usize,
    /// Situations that an earlier decision opens.
    pub opened: usize,
    /// Situations each of the pack's own roles is in.
    pub appearances: usize,
    pub details: usize,
    pub endings: usize,
    pub sequels: usize,
}

const DEEP: Measure = Measure {
    pressures: 8,
    pressure_lines: 3,
    causes: 8,
    roles: 12,
    moves: (3, 2),
    storylets: [10, 10, 8, 10],
    storylets_in_all: 40,
    of_age: 34,
    of_age_alone: 3,
    forms: 4,
    opened: 8,
    appearances: 3,
    details: 12,
    endings: 5,
    sequels: 3,
};

/// The pack for whatever no other knows has little that belongs to one age.
const GENERAL: Measure = Measure { storylets: [10, 10, 8, 9], of_age_alone: 2, ..DEEP };

/// In languages other than English there is one pack for everything, and it is smaller.
const TRANSLATED: Measure = Measure {
    pressures: 4,
    pressure_lines: 2,
    causes: 4,
    roles: 4,
    moves: (2, 2),
    storylets: [4, 4, 3, 3],
    storylets_in_all: 16,
    of_age: 14,
    of_age_alone: 0,
    forms: 2,
    opened: 2,
    appearances: 1,
    details: 8,
    endings: 4,
    sequels: 2,
};

pub fn measure(language: &str, pack: &str) -> &'static Measure {
    match (language, pack) {
        ("en", "anywhere") => &GENERAL,
        ("en", _) => &DEEP,
        _ => &TRANSLATED,
    }
}

/// Fewest and most words of a passage. Scenes are put together by length, so one that is much too long crowds out
/// what else there is to tell.
pub const fn words_wanted(kind: Kind) -> Option<(usize, usize)> {
    match kind {
        Kind::Text => Some((38, 98)),
        Kind::More => Some((14, 50)),
        Kind::Then => Some((18, 64)),
        Kind::Later => Some((15, 55)),
        Kind::Ending => Some((80, 150)),
        Kind::Cause | Kind::Reveal => Some((8, 66)),
        Kind::Pressure | Kind::Detail | Kind::Move => Some((4, 48)),
        Kind::Label | Kind::Hint | Kind::Subject => Some((1, 22)),
        Kind::Shared | Kind::Reply | Kind::Target | Kind::Broken => Some((4, 70)),
    }
}
