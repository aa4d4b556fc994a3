//! The words by which a prompt is read: verbs, operators, times. English only; what is not found here is quoted.

use super::prompt::Operator;

const AUXILIARIES: &str = "had has have was were is are am be could can would will should might may must did does do didn’t don’t doesn’t hadn’t hasn’t haven’t wasn’t weren’t isn’t aren’t couldn’t can’t wouldn’t won’t became becomes";
const OPERATORS: [(Operator, &str); 9] = [
    (
        Operator::Never,
        "never not didn’t don’t doesn’t hadn’t hasn’t haven’t wasn’t weren’t isn’t aren’t couldn’t can’t won’t nver nevr neverr didnt dont wasnt hadnt",
    ),
    (Operator::Instead, "instead rather replaced switched swapped"),
    (Operator::Always, "always forever constantly alwyas alays"),
    (
        Operator::Vanished,
        "vanished disappeared ceased died stopped ended vanish disappear stop without gone destroyed burned burnt",
    ),
    (Operator::Won, "won defeated conquered beat win ruled united succeeded triumphed wins"),
    (Operator::Lost, "lost failed fell collapsed lose surrendered sank falls loses betrayed"),
    (
        Operator::Discovered,
        "discovered invented found built created developed discover invent landed reached learned learnt met arrived",
    ),
    (
        Operator::Survived,
        "survived lived stayed kept remained returned survive continued existed lasted endured",
    ),
    (Operator::Could, "could can able spoke talked talk fly flew"),
];
const OTHER_VERBS: &str = "made took gave went came left chose said told married wrote sold bought grew rose broke turned got began started moved refused signed joined invaded attacked crossed ran ate cost froze shone flooded goes becomes takes makes gets knew saw felt slept woke forgot forgets brought caught drank drove fought forgave hid held hung heard laid led lent lit meant met paid quit rang sang sank sent set shook shot shut sat slid spent split spread stood stole stuck struck swam swore swept taught tore thought threw understood wept wore wound withdrew hated loved believed lives needs wants rules sleeps dreams remembers exists turns runs falls rains snows stops grows works hates loves died";

fn among(list: &str, word: &str) -> bool {
    // Most words are in no list, and a search for the letters finds that out fastest.
    list.contains(word) && list.split(' ').any(|known| known == word)
}

pub fn find_verb(lower: &[String]) -> Option<usize> {
    lower
        .iter()
        .position(|word| {
            let word = word.as_str();
            among(AUXILIARIES, word)
                || among(OTHER_VERBS, word)
                || OPERATORS
                    .iter()
                    .any(|(operator, words)| *operator != Operator::Instead && among(words, word))
                || word == "suddenly"
        })
        .or_else(|| {
            // A regular past: "the Romans sailed west". The first word and words after an article name things.
            (1..lower.len()).find(|&at| {
                lower[at].len() > 4
                    && lower[at].ends_with("ed")
                    && !["the", "a", "an"].contains(&lower[at - 1].as_str())
            })
        })
}

pub fn operator(lower: &[String], verb: usize) -> Operator {
    if lower[0] == "there" && lower.iter().skip(verb).take(2).any(|word| word == "no") {
        return Operator::Vanished;
    }
    if lower.iter().any(|word| word == "no-one" || word == "nobody") {
        return Operator::Never;
    }
    OPERATORS
        .iter()
        .find(|(_, words)| lower.iter().any(|word| among(words, word)))
        .map_or(Operator::Other, |(operator, _)| *operator)
}

/// The tokens that say when, with their preposition.
pub fn find_era(tokens: &[&str], lower: &[String]) -> Option<(usize, usize)> {
    const PREPOSITIONS: &str =
        "in by before during after since until around circa throughout at from as";
    const ERAS: &str = "century centuries age ages era period antiquity renaissance revolution war wwi wwii ww2 ww1 today tomorrow now nowadays prehistory future past bc ad bce ce years dynasty times summer winter";
    const STANDALONE: &str = "today tomorrow nowadays yesterday tonight overnight";
    let is_year = |word: &str| {
        let digits = word.trim_end_matches("s").trim_end_matches("bc").trim_end_matches("ad");
        (3..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    for at in 0..lower.len() {
        let word = lower[at].as_str();
        if among(PREPOSITIONS, word) && at + 1 < lower.len() {
            let mut end = None;
            for next in at + 1..lower.len().min(at + 6) {
                let word = lower[next].as_str();
                if is_year(word)
                    || among(ERAS, word)
                    || (next == at + 2 && lower[at + 1] == "ancient")
                {
                    end = Some(next + 1);
                } else if among(PREPOSITIONS, word)
                    || among(AUXILIARIES, word)
                    || (end.is_some() && !among(ERAS, word))
                {
                    break;
                }
                if tokens[next].ends_with(',') {
                    break;
                }
            }
            if let Some(end) = end {
                return Some((at, end));
            }
        }
        if among(STANDALONE, word) || (at > 0 && is_year(word)) {
            return Some((at, at + 1));
        }
    }
    None
}
