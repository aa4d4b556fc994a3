//! Whether a reader's word is a known word.

/// How many of `words` are keywords, one slip of the pen allowed in longer words.
pub fn hits(keywords: &[String], words: &[String]) -> usize {
    words.iter().filter(|word| keywords.iter().any(|keyword| same_word(keyword, word))).count()
}

/// As [`hits`], but a keyword may be several words, which have to stand side by side and count as many.
pub fn phrase_hits(keywords: &[String], words: &[String]) -> usize {
    let single = words
        .iter()
        .filter(|word| keywords.iter().any(|known| !known.contains(' ') && same_word(known, word)))
        .count();
    let phrases = keywords.iter().filter(|keyword| keyword.contains(' ')).map(|keyword| {
        let phrase: Vec<&str> = keyword.split(' ').collect();
        let side_by_side = |window: &[String]| {
            window.iter().zip(&phrase).all(|(word, known)| same_word(known, word))
        };
        if words.windows(phrase.len()).any(side_by_side) { phrase.len() } else { 0 }
    });
    single + phrases.sum::<usize>()
}

/// Equal, a plural or participle of it, or one letter off in a word of six or more.
pub fn same_word(keyword: &str, word: &str) -> bool {
    if word == keyword {
        return true;
    }
    if let Some(tail) = word.strip_prefix(keyword) {
        return keyword.len() >= 3
            && ["s", "es", "d", "ed", "n", "ing", "'s", "’s"].contains(&tail);
    }
    keyword.len() >= 6
        && word.len() >= 5
        && keyword.bytes().next() == word.bytes().next()
        && one_slip(keyword.as_bytes(), word.as_bytes())
}

/// One letter missing, added, wrong, or two neighbours swapped.
fn one_slip(a: &[u8], b: &[u8]) -> bool {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    if long.len() - short.len() > 1 {
        return false;
    }
    let Some(at) = short.iter().zip(long).position(|(x, y)| x != y) else { return true };
    if long.len() > short.len() {
        return long[at + 1..] == short[at..];
    }
    long[at + 1..] == short[at + 1..]
        || (at + 1 < long.len()
            && long[at] == short[at + 1]
            && long[at + 1] == short[at]
            && long[at + 2..] == short[at + 2..])
}
