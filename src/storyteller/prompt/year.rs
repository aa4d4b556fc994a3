//! The year in words like "in 1950", "during the Bronze Age", "in the 23rd century", "tonight".

/// Names of ages and the year that a story of them plays in.
const AGES: [(&str, i32); 34] = [
    ("stone age", -8000),
    ("ice age", -15_000),
    ("bronze age", -1500),
    ("iron age", -600),
    ("middle ages", 1200),
    ("dark ages", 700),
    ("roman times", 100),
    ("roman era", 100),
    ("age of sail", 1700),
    ("age of enlightenment", 1750),
    ("industrial revolution", 1830),
    ("french revolution", 1790),
    ("american revolution", 1776),
    ("russian revolution", 1917),
    ("civil war", 1863),
    ("cold war", 1965),
    ("space age", 1965),
    ("first world war", 1916),
    ("world war i", 1916),
    ("world war ii", 1942),
    ("second world war", 1942),
    ("wwi", 1916),
    ("ww1", 1916),
    ("wwii", 1942),
    ("ww2", 1942),
    ("great depression", 1932),
    ("ming dynasty", 1500),
    ("renaissance", 1500),
    ("antiquity", -100),
    ("medieval", 1200),
    ("victorian", 1870),
    ("edwardian", 1905),
    ("prehistory", -20_000),
    ("ancient", -300),
];
const NOW: [&str; 8] =
    ["today", "tonight", "tomorrow", "yesterday", "now", "nowadays", "overnight", "present"];
/// The year of a story that plays now, whenever it is read: chance and time have no part in a scene.
const PRESENT: i32 = 2020;
const FUTURE: i32 = 2150;

/// The year that the words of an era name, lower-case and without marks.
pub fn of(words: &[String]) -> Option<i32> {
    let text = words.join(" ");
    let before = words.iter().any(|word| ["bc", "bce"].contains(&word.as_str()))
        || words.iter().any(|word| number(word).is_some() && word.ends_with("bc"));
    let sign = |year: i32| if before { -year } else { year };
    if let Some(at) = words.iter().position(|word| word.starts_with("centur")) {
        let century = words[..at].iter().rev().find_map(|word| ordinal(word))?;
        return Some(sign(if before { century * 100 - 50 } else { (century - 1) * 100 + 50 }));
    }
    if let Some(at) = words.iter().position(|word| word == "ago")
        && let Some(count) = words[..at].iter().find_map(|word| number(word))
    {
        let scale = if text.contains("million") { 1_000_000 } else { 1 };
        return Some(PRESENT.saturating_sub(count.saturating_mul(scale)));
    }
    if let Some(year) = words.iter().find_map(|word| number(word)).filter(|year| *year > 0) {
        return Some(sign(year));
    }
    if let Some((_, year)) = AGES.iter().find(|(age, _)| text.contains(age)) {
        return Some(*year);
    }
    if text.contains("future") {
        return Some(FUTURE);
    }
    words.iter().any(|word| NOW.contains(&word.as_str())).then_some(PRESENT)
}

/// `1950`, `1800s`, `500bc`.
fn number(word: &str) -> Option<i32> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let tail = &word[digits.len()..];
    if !["", "s", "bc", "ad", "ce", "bce"].contains(&tail) || digits.len() > 6 {
        return None;
    }
    digits.parse().ok()
}

/// `23rd`, `ninth`.
fn ordinal(word: &str) -> Option<i32> {
    const WORDS: [&str; 23] = [
        "first",
        "second",
        "third",
        "fourth",
        "fifth",
        "sixth",
        "seventh",
        "eighth",
        "ninth",
        "tenth",
        "eleventh",
        "twelfth",
        "thirteenth",
        "fourteenth",
        "fifteenth",
        "sixteenth",
        "seventeenth",
        "eighteenth",
        "nineteenth",
        "twentieth",
        "twenty-first",
        "twenty-second",
        "twenty-third",
    ];
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    if let Ok(number) = digits.parse::<i32>() {
        return (1..=60).contains(&number).then_some(number);
    }
    WORDS.iter().position(|known| *known == word).map(|at| at as i32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eras_have_years() {
        for (era, year) in [
            ("in 1950", Some(1950)),
            ("in the 1800s", Some(1800)),
            ("in 1000 bc", Some(-1000)),
            ("in 44bc", Some(-44)),
            ("during the bronze age", Some(-1500)),
            ("by the 15th century", Some(1450)),
            ("in the third century bc", Some(-250)),
            ("in the 23rd century", Some(2250)),
            ("in the twenty-third century", Some(2250)),
            ("tonight", Some(PRESENT)),
            ("in the future", Some(FUTURE)),
            ("before the middle ages", Some(1200)),
            ("in ancient egypt", Some(-300)),
            ("during the war", None),
            ("in summer", None),
        ] {
            let words: Vec<String> = era.split(' ').map(str::to_owned).collect();
            assert_eq!(of(&words), year, "{era}");
        }
    }
}
