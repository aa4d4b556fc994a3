//! Whether a reader's word is a known word.

/// Words that are looked at, so that a set of them fits into a number.
const MOST_WORDS: usize = 64;

/// How many of `words` are keywords, one slip of the pen allowed in longer words.
pub fn hits(keywords: &[String], words: &[String]) -> usize {
    words.iter().filter(|word| keywords.iter().any(|keyword| same_word(keyword, word))).count()
}

/// As [`hits`], but a keyword may be several words, which have to stand side by side and count as many.
pub fn phrase_hits(keywords: &[String], words: &[String]) -> usize {
    let words = &words[..words.len().min(MOST_WORDS)];
    let mut hit = 0_u64;
    let mut phrases = 0;
    for keyword in keywords {
        // Nearly all keywords fall here, whatever the prompt.
        let mut begin = (0..words.len()).filter(|at| same_start(keyword, &words[*at])).peekable();
        if begin.peek().is_none() {
            continue;
        }
        if keyword.contains(' ') {
            let length = keyword.split(' ').count();
            let stands_at = |at: usize| {
                words.len() - at >= length
                    && keyword
                        .split(' ')
                        .zip(&words[at..])
                        .all(|(known, word)| same_word(known, word))
            };
            phrases += if begin.any(stands_at) { length } else { 0 };
        } else {
            for at in begin.filter(|at| same_word(keyword, &words[*at])) {
                hit |= 1 << at;
            }
        }
    }
    hit.count_ones() as usize + phrases
}

fn same_start(keyword: &str, word: &str) -> bool {
    keyword.as_bytes().first() == word.as_bytes().first()
}

/// Equal, a plural or participle of it, or one letter off in a word of six or more.
pub fn same_word(keyword: &str, word: &str) -> bool {
    if !same_start(keyword, word) {
        return false;
    }
    if word == keyword {
        return true;
    }
    if let Some(tail) = word.strip_prefix(keyword) {
        return keyword.len() >= 3
            && ["s", "es", "d", "ed", "n", "ing", "'s", "’s"].contains(&tail);
    }
    keyword.len() >= 6 && word.len() >= 5 && one_slip(keyword.as_bytes(), word.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_are_known_with_their_endings_and_a_slip() {
        for (keyword, word, same) in [
            ("king", "king", true),
            ("king", "kings", true),
            ("king", "king’s", true),
            ("king", "kin", false),
            ("bee", "bees", true),
            ("electricity", "electrisity", true),
            ("electricity", "eletcricity", true),
            ("emperor", "emperors", true),
            ("war", "warm", false),
        ] {
            assert_eq!(same_word(keyword, word), same, "{keyword} {word}");
        }
    }

    #[test]
    fn phrases_stand_side_by_side_and_count_their_words() {
        let known: Vec<String> = ["berlin wall", "berlin", "fell"].map(str::to_owned).into();
        for (text, count) in [
            ("the berlin wall never fell", 4),
            ("a wall in berlin", 1),
            ("berlin berlin", 2),
            ("wall", 0),
            ("berlin", 1),
        ] {
            assert_eq!(phrase_hits(&known, &words(text)), count, "{text}");
        }
    }
}
