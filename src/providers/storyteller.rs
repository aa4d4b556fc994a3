//! The embedded storyteller as a text provider: paced, deterministic, always there.
//!
//! It asks [`crate::storyteller`] for the whole scene, which takes microseconds, and hands it out at a reader's pace.
//! Nothing here can fail, so it is also the last provider a turn falls back on.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream;
use tokio::time::Instant;

use super::text::{EndReason, ProviderError, StoryRequest, TextChunk, TextProvider, TextStream};
use crate::domain::scenario::Usage;
use crate::storyteller::{self, Input, Scene};

pub const NAME: &str = "storyteller";
pub const MODEL: &str = "embedded-1";

/// Words in a chunk when there is no pace to keep.
const WORDS_UNPACED: usize = 24;
/// Words in a chunk of paced prose, in turn: an even beat looks mechanical.
const WORDS_PACED: [usize; 5] = [2, 3, 1, 2, 2];

#[derive(Debug, Clone)]
pub struct StorytellerProvider {
    /// Time for one word; zero for no pace.
    word: Duration,
}

impl StorytellerProvider {
    /// `words_per_second` of prose; 0 (or what is no rate at all) streams without pauses.
    pub fn new(words_per_second: f64) -> Self {
        let word = Duration::try_from_secs_f64(words_per_second.recip())
            .ok()
            .filter(|_| words_per_second > 0.0)
            .unwrap_or(Duration::ZERO);
        Self { word }
    }
}

/// The engine's view of a request.
pub fn input(request: &StoryRequest) -> Input<'_> {
    Input {
        prompt: &request.brief.prompt,
        genre: request.brief.genre.as_deref(),
        tone: request.brief.tone.as_deref(),
        length: request.brief.length,
        language: &request.brief.language,
        seed: request.brief.seed,
        state: &request.state,
        via: &request.via,
        variation: request.variation,
    }
}

fn scene(request: &StoryRequest) -> Scene {
    if request.prose_done {
        storyteller::choices_only(&input(request), &request.shown)
    } else {
        storyteller::continue_from(&input(request), &request.shown)
    }
}

/// No tokens exist here; 4/3 of the words is what a common tokenizer would count. Nothing is read.
fn usage(text: &str) -> Usage {
    let words = text.split_whitespace().count() as u64;
    Usage { input_tokens: 0, output_tokens: (words * 4).div_ceil(3) }
}

/// A scene on its way out.
struct Recital {
    /// Chunks still to come, the next one last, each with the words that were said before it.
    chunks: Vec<(usize, String)>,
    usage: Usage,
    word: Duration,
    begun: Instant,
    ended: bool,
}

impl Recital {
    fn new(scene: &Scene, word: Duration) -> Self {
        let tail = scene.tail();
        let mut chunks = Vec::new();
        let mut said = 0;
        for chunk in chunked(&scene.prose, word.is_zero()) {
            let words = chunk.split_whitespace().count();
            chunks.push((said, chunk.to_owned()));
            said += words;
        }
        // Choices are not for reading along: they come at once, line by line.
        chunks.extend(tail.split_inclusive('\n').map(|line| (said, line.to_owned())));
        let usage = usage(&chunks.iter().map(|(_, chunk)| chunk.as_str()).collect::<String>());
        chunks.reverse();
        Self { chunks, usage, word, begun: Instant::now(), ended: false }
    }

    async fn next(mut self) -> Option<(Result<TextChunk, ProviderError>, Self)> {
        if self.ended {
            return None;
        }
        let Some((said, chunk)) = self.chunks.pop() else {
            self.ended = true;
            return Some((
                Ok(TextChunk::End { reason: EndReason::Complete, usage: self.usage }),
                self,
            ));
        };
        if !self.word.is_zero() {
            // Against the beginning, so that a slow reader's pauses are not added to ours.
            let due = self.word.saturating_mul(u32::try_from(said).unwrap_or(u32::MAX));
            if let Some(due) = self.begun.checked_add(due) {
                tokio::time::sleep_until(due).await;
            }
        }
        Some((Ok(TextChunk::Text(chunk)), self))
    }
}

/// `prose` in pieces of a few words; each word keeps the space before it.
fn chunked(prose: &str, unpaced: bool) -> Vec<&str> {
    let mut chunks = Vec::new();
    let (mut start, mut words, mut in_word) = (0, 0, false);
    let mut wanted = if unpaced { WORDS_UNPACED } else { WORDS_PACED[0] };
    for (at, c) in prose.char_indices() {
        if in_word && c.is_whitespace() {
            words += 1;
            if words == wanted {
                chunks.push(&prose[start..at]);
                (start, words) = (at, 0);
                if !unpaced {
                    wanted = WORDS_PACED[chunks.len() % WORDS_PACED.len()];
                }
            }
        }
        in_word = !c.is_whitespace();
    }
    if start < prose.len() {
        chunks.push(&prose[start..]);
    }
    chunks
}

#[async_trait]
impl TextProvider for StorytellerProvider {
    fn name(&self) -> &str {
        NAME
    }

    fn model(&self) -> &str {
        MODEL
    }

    fn continues_exactly(&self) -> bool {
        true
    }

    fn is_trusted(&self) -> bool {
        true
    }

    async fn open(&self, request: StoryRequest) -> Result<TextStream, ProviderError> {
        Ok(Box::pin(stream::unfold(Recital::new(&scene(&request), self.word), Recital::next)))
    }

    /// It has no vendor that could fail to answer.
    async fn probe(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt;

    use super::*;
    use crate::domain::patch::Object;
    use crate::domain::scenario::{Length, Via};
    use crate::providers::text::Brief;

    fn request(shown: &str, prose_done: bool) -> StoryRequest {
        StoryRequest {
            brief: Arc::new(Brief {
                prompt: "What if Rome never fell?".to_owned(),
                genre: None,
                tone: None,
                length: Length::Medium,
                language: "en".to_owned(),
                seed: 42,
            }),
            path: Arc::new(Vec::new()),
            chapters: Arc::default(),
            state: Arc::new(Object::new()),
            via: Via::Prompt,
            variation: 0,
            shown: shown.to_owned(),
            prose_done,
            model: None,
        }
    }

    async fn recite(
        provider: &StorytellerProvider,
        request: StoryRequest,
    ) -> (String, Vec<String>, Usage) {
        let mut stream = provider.open(request).await.unwrap();
        let mut chunks = Vec::new();
        let mut end = None;
        while let Some(item) = stream.next().await {
            match item.unwrap() {
                TextChunk::Text(text) => {
                    assert!(end.is_none() && !text.is_empty());
                    chunks.push(text);
                }
                TextChunk::End { reason, usage } => {
                    assert_eq!(reason, EndReason::Complete);
                    assert!(end.replace(usage).is_none());
                }
            }
        }
        (chunks.concat(), chunks, end.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn prose_keeps_the_pace_and_the_rest_comes_at_once() {
        let begun = Instant::now();
        let (paced, chunks, usage) =
            recite(&StorytellerProvider::new(10.0), request("", false)).await;
        let (prose, tail) = paced.split_once("\n<<<CHOICES>>>\n").unwrap();
        let words = prose.split_whitespace().count();
        let took = begun.elapsed().as_secs_f64();
        assert!((took - words as f64 / 10.0).abs() < 0.5, "{words} words in {took} s");
        assert!(
            chunks
                .iter()
                .take_while(|chunk| !chunk.contains("<<<"))
                .all(|chunk| chunk.split_whitespace().count() <= 3)
        );
        let (choices, state) = tail.split_once("<<<STATE>>>\n").unwrap();
        assert!((2..=4).contains(&choices.lines().count()));
        assert!(
            choices.lines().enumerate().all(|(at, line)| line
                .starts_with(&format!("{}. ", at + 1))
                && line.contains(" | "))
        );
        assert!(serde_json::from_str::<Object>(state).unwrap().contains_key("pressures"));
        assert!(usage.input_tokens == 0 && usage.output_tokens as usize > words);

        let (unpaced, ..) = recite(&StorytellerProvider::new(0.0), request("", false)).await;
        assert_eq!(unpaced, paced);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_exactly_where_it_was_cut_off() {
        let provider = StorytellerProvider::new(0.0);
        let (whole, ..) = recite(&provider, request("", false)).await;
        let (prose, tail) = whole.split_once("\n<<<CHOICES>>>\n").unwrap();
        for (at, _) in prose.char_indices().step_by(7) {
            let (rest, ..) = recite(&provider, request(&prose[..at], false)).await;
            assert_eq!(rest, whole[at..]);
        }
        let (rest, ..) = recite(&provider, request(prose, true)).await;
        assert_eq!(rest, format!("\n<<<CHOICES>>>\n{tail}"));
    }

    #[test]
    fn no_rate_is_no_pace() {
        for rate in [0.0, -3.0, f64::NAN, f64::INFINITY] {
            assert_eq!(StorytellerProvider::new(rate).word, Duration::ZERO, "{rate}");
        }
    }

    #[test]
    fn chunks_lose_nothing() {
        for text in ["", " ", "one", "a b\n\nc  d e f g", " lead", "trail "] {
            assert_eq!(chunked(text, false).concat(), text);
            assert_eq!(chunked(text, true).concat(), text);
        }
    }
}
