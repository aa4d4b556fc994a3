//! What was read of a stream ahead of its reader: a few words and no more.

use futures::{StreamExt, stream};

use crate::domain::budget::estimate_tokens;
use crate::domain::scenario::Usage;
use crate::providers::text::{TextChunk, TextStream};

/// A word counts as so many bytes at most: text without spaces has an end, too.
const WORD_BYTES: usize = 16;

/// Beyond its bound it holds no more than what arrived together with the last word.
pub struct Read {
    chunks: Vec<TextChunk>,
    words: usize,
    bytes: usize,
    tokens: u64,
    /// The last chunk ended within a word.
    within_word: bool,
    most_words: usize,
}

impl Read {
    pub fn new(most_words: usize) -> Self {
        Self { chunks: Vec::new(), words: 0, bytes: 0, tokens: 0, within_word: false, most_words }
    }

    pub fn push(&mut self, chunk: TextChunk) {
        if let TextChunk::Text(text) = &chunk {
            self.bytes += text.len();
            self.tokens += estimate_tokens(text);
            for c in text.chars() {
                let begins = !self.within_word && !c.is_whitespace();
                self.words += usize::from(begins);
                self.within_word = !c.is_whitespace();
            }
        }
        self.chunks.push(chunk);
    }

    /// Whether no more is to be read for now.
    pub fn is_full(&self) -> bool {
        self.words > self.most_words
            || self.bytes >= self.most_words.saturating_mul(WORD_BYTES)
            || self.usage().is_some()
    }

    /// What the vendor says that the call came to, if the stream has ended.
    pub fn usage(&self) -> Option<Usage> {
        match self.chunks.last() {
            Some(TextChunk::End { usage, .. }) => Some(*usage),
            _ => None,
        }
    }

    /// About how many tokens it has.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The stream as it was before anything was read.
    pub fn before(self, rest: TextStream) -> TextStream {
        Box::pin(stream::iter(self.chunks).map(Ok).chain(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::text::EndReason;

    fn read(most: usize, texts: &[&str]) -> usize {
        let mut read = Read::new(most);
        let texts = texts.iter().take_while(|text| {
            let more = !read.is_full();
            if more {
                read.push(TextChunk::Text((**text).to_owned()));
            }
            more
        });
        texts.count()
    }

    #[test]
    fn it_ends_after_so_many_words_however_they_are_cut() {
        for (name, texts, read_of_them) in [
            ("the word after the last one ends it", vec![" one", " two", " three", " four"], 3),
            ("words in pieces are one", vec!["o", "n", "e", " tw", "o", " th", "ree"], 6),
            ("white space is no word", vec!["one ", " \n ", " two", "  ", "x", "y"], 5),
            ("a text without spaces is bounded as well", vec!["門が開いた。青銅の"; 9], 2),
            ("what comes together stays together", vec!["one two three four", "five"], 1),
        ] {
            assert_eq!(read(2, &texts), read_of_them, "{name}");
        }
    }

    #[tokio::test]
    async fn an_end_is_an_end_and_nothing_is_lost_before_the_rest() {
        let end = TextChunk::End { reason: EndReason::Complete, usage: Usage::default() };
        let mut read = Read::new(100);
        for chunk in [TextChunk::Text("One two. ".into()), TextChunk::Text("Three.".into())] {
            read.push(chunk);
        }
        assert!(!read.is_full() && read.usage().is_none() && read.tokens() > 2);
        let rest: TextStream = Box::pin(stream::iter([Ok(end.clone())]));
        let all: Vec<_> = read.before(rest).map(Result::unwrap).collect().await;
        assert_eq!(all[2], end);
        assert_eq!(all.len(), 3);

        let mut whole = Read::new(100);
        whole.push(end);
        assert!(whole.is_full() && whole.usage() == Some(Usage::default()));
    }
}
