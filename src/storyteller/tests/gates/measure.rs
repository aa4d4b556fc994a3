//! Figures about a story's text.

use std::collections::{HashMap, HashSet};

use crate::storyteller::content::{Pack, content};
use crate::storyteller::resume::sentences;
use crate::storyteller::template::{Piece, Template};

/// How varied a story's language is.
pub struct Language {
    /// Share of different words among the first thousand.
    pub words: f64,
    /// Share of sentences that begin with two words with which no other begins.
    pub openings: f64,
}

impl Language {
    pub fn of(text: &str) -> Self {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower
            .split(|c: char| !c.is_alphanumeric() && c != '’')
            .filter(|word| !word.is_empty())
            .take(1_000)
            .collect();
        let different: HashSet<&str> = words.iter().copied().collect();
        let openings: Vec<String> = lower
            .split("\n\n")
            .flat_map(sentences)
            .map(|sentence| sentence.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect();
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for opening in &openings {
            *counts.entry(opening).or_default() += 1;
        }
        let alone = counts.values().filter(|count| **count == 1).count();
        Self {
            words: different.len() as f64 / words.len().max(1) as f64,
            openings: alone as f64 / openings.len().max(1) as f64,
        }
    }
}

/// The mean and the least.
pub fn means(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut sum, mut count, mut least) = (0.0, 0.0, f64::INFINITY);
    for value in values {
        sum += value;
        count += 1.0;
        least = least.min(value);
    }
    (sum / count, least)
}

/// Passages that only a late consequence has, by the longest text between their slots.
pub struct Callbacks(Vec<String>);

impl Callbacks {
    pub fn of(pack: &Pack) -> Self {
        let offers = pack.storylet.iter().chain([&pack.opening]).flat_map(|each| &each.choice);
        let later = offers.chain(&pack.sequel).flat_map(|offer| &offer.later);
        Self(later.chain(&content("en").common.kept).map(longest).collect())
    }

    pub fn are_in(&self, prose: &str) -> bool {
        self.0.iter().any(|text| prose.contains(text))
    }
}

fn longest(template: &Template) -> String {
    let texts = template.pieces.iter().filter_map(|piece| match piece {
        Piece::Text(text) => Some(text),
        Piece::Slot { .. } => None,
    });
    texts.max_by_key(|text| text.len()).map(ToString::to_string).unwrap_or_default()
}

/// Whether a passage was told in `text`.
pub fn is_in(template: &Template, text: &str) -> bool {
    text.contains(&longest(template))
}
