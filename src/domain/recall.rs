//! What of a long story bears on what happens next: the earlier sentences that share rare words with it.
//!
//! The score is Okapi BM25 (Robertson and Zaragoza, 2009) over the sentences of the scenes that are no longer told in
//! full, with its usual constants. It needs no model and gives the same for the same story.

use std::collections::{HashMap, HashSet};

/// Term frequency's saturation and length's weight, as BM25 is commonly used.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// Words that stand in so many of the sentences say nothing about any of them.
const COMMON_SHARE: f64 = 0.2;
/// Shorter words are articles and the like in most scripts with spaces.
const MIN_CHARS: usize = 3;
/// Longest sentence that is recalled, in characters; longer ones are cut.
const MAX_CHARS: usize = 320;

/// A sentence of an earlier scene.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled<'a> {
    /// Position of its scene in what was searched.
    pub scene: usize,
    pub text: &'a str,
}

/// Up to `most` sentences of `scenes` that have most to do with `cue`, in the order they were told.
pub fn recall<'a>(scenes: &[&'a str], cue: &str, most: usize) -> Vec<Recalled<'a>> {
    let asked: HashSet<String> = terms(cue).collect();
    let sentences: Vec<(Recalled<'a>, Vec<String>)> = scenes
        .iter()
        .enumerate()
        .flat_map(|(scene, text)| {
            sentences(text).map(move |text| {
                (Recalled { scene, text: shortened(text) }, terms(text).collect::<Vec<_>>())
            })
        })
        .collect();
    if asked.is_empty() || sentences.is_empty() {
        return Vec::new();
    }
    let mut found_in: HashMap<&str, usize> = HashMap::new();
    for (_, words) in &sentences {
        for word in words.iter().filter(|word| asked.contains(*word)).collect::<HashSet<_>>() {
            *found_in.entry(word).or_default() += 1;
        }
    }
    let count = sentences.len() as f64;
    let mean = sentences.iter().map(|(_, words)| words.len()).sum::<usize>() as f64 / count;
    // In a short story every word may be in a fifth of the sentences.
    let common = (count * COMMON_SHARE).max(3.0);
    let score = |words: &[String]| -> f64 {
        let length = 1.0 - B + B * words.len() as f64 / mean.max(1.0);
        let of = |(word, found): (&&str, &usize)| {
            let (found, times) = (*found as f64, words.iter().filter(|w| w == word).count() as f64);
            if found > common || times == 0.0 {
                return 0.0;
            }
            let rarity = (1.0 + (count - found + 0.5) / (found + 0.5)).ln();
            rarity * times * (K1 + 1.0) / (times + K1 * length)
        };
        found_in.iter().map(of).sum()
    };
    let mut ranked: Vec<(f64, usize)> =
        sentences.iter().enumerate().map(|(at, (_, words))| (score(words), at)).collect();
    ranked.retain(|(score, _)| *score > 0.0);
    ranked.sort_by(|(a, x), (b, y)| b.total_cmp(a).then(y.cmp(x)));
    let mut seen = HashSet::new();
    let mut chosen: Vec<usize> = ranked
        .into_iter()
        .map(|(_, at)| at)
        .filter(|at| seen.insert(sentences[*at].0.text))
        .take(most)
        .collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|at| sentences[at].0.clone()).collect()
}

/// The words of a text that can tell one sentence from another, in lower case, plurals and possessives as their noun.
/// Scripts without spaces between words are taken in pairs of characters.
fn terms(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '’' && c != '\'');
    words.flat_map(|word| {
        if word.contains(|c| c >= '\u{2e80}') {
            let chars: Vec<char> = word.chars().collect();
            let pairs = chars.windows(2).map(|pair| pair.iter().collect());
            return pairs.collect::<Vec<String>>();
        }
        let word = word.to_lowercase();
        let word = word.trim_matches(['’', '\'']);
        let word = word.strip_suffix("’s").or(word.strip_suffix("'s")).unwrap_or(word);
        // A final "s" is as often a plural's as not; taken off everywhere it harms nobody.
        let stem = match word.strip_suffix('s') {
            Some(stem) if stem.chars().count() >= MIN_CHARS && !stem.ends_with('s') => stem,
            _ => word,
        };
        let tells = stem.chars().count() >= MIN_CHARS;
        tells.then(|| stem.to_owned()).into_iter().collect()
    })
}

fn shortened(sentence: &str) -> &str {
    match sentence.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => sentence[..at].trim_end(),
        None => sentence,
    }
}

/// A text's sentences, with their marks and quotation marks, without the space around them.
pub fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        if rest.is_empty() {
            return None;
        }
        let end = sentence_end(rest);
        let (sentence, after) = rest.split_at(end);
        rest = after;
        Some(sentence.trim_end())
    })
}

/// Where the text's first sentence ends.
pub fn sentence_end(text: &str) -> usize {
    for (at, c) in text.char_indices() {
        let end = at + c.len_utf8();
        match c {
            '.' | '!' | '?' | '…' => {
                let closed =
                    text[end..].trim_start_matches(['"', '”', '»', '’', ')', '.', '!', '?', '…']);
                if closed.is_empty() || closed.starts_with(char::is_whitespace) {
                    return text.len() - closed.len();
                }
            }
            '。' | '！' | '？' => {
                let closed = text[end..].trim_start_matches(['」', '』', '”']);
                return text.len() - closed.len();
            }
            '\n' => return at.max(1),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rare_word_brings_its_sentence_back() {
        let scenes = [
            "The senate met. Old Varro hid the bronze key under the third step of the granary. It rained.",
            "The senate met again. Nobody spoke of grain. The gates were shut.",
            "A courier came to the senate. The gates were opened.",
        ];
        let texts = |cue| -> Vec<&str> {
            recall(&scenes, cue, 1).into_iter().map(|recalled| recalled.text).collect()
        };
        for cue in ["Fetch the key from its hiding place", "ask VARRO’s son", "What of the keys?"]
        {
            let [found] = texts(cue)[..] else { panic!("{cue}") };
            assert!(found.starts_with("Old Varro hid the bronze key"), "{cue}: {found}");
        }
        let wide = ["門が開いた。青銅の鍵は階段の下にある。", "雨が降った。"];
        assert_eq!(recall(&wide, "鍵はどこ？青銅の", 1)[0].text, "青銅の鍵は階段の下にある。");
        assert!(texts("Sing").is_empty() && texts("").is_empty() && texts("a an of").is_empty());
    }

    #[test]
    fn what_is_recalled_stands_in_the_order_it_was_told() {
        let scenes = ["A red door. A blue cup.", "Rain. A red cup on the sill."];
        let found = recall(&scenes, "the blue cup by the red door", 3);
        let told: Vec<_> = found.iter().map(|recalled| (recalled.scene, recalled.text)).collect();
        assert_eq!(told, [(0, "A red door."), (0, "A blue cup."), (1, "A red cup on the sill.")]);
    }

    #[test]
    fn sentences_end_where_a_reader_would_say() {
        for (text, first) in [
            ("It cost 3.5 denarii. Then rain.", "It cost 3.5 denarii."),
            ("“Run!” he said. Then rain.", "“Run!”"),
            ("No end", "No end"),
            ("Title\nThen rain.", "Title"),
            ("雨停了。他走了。", "雨停了。"),
            ("Well… perhaps.", "Well…"),
        ] {
            assert_eq!(sentences(text).next(), Some(first));
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_sentences(text in any::<String>()) {
            let joined: String = sentences(&text).flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
            let whole: String = text.chars().filter(|c| !c.is_whitespace()).collect();
            prop_assert_eq!(joined, whole);
            prop_assert!(recall(&[&text], &text, 3).len() <= 3);
        }
    }
}
