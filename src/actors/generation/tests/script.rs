//! A vendor that does what a test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream;

use crate::domain::scenario::Usage;
use crate::providers::text::{
    EndReason, Price, ProviderError, ProviderErrorKind, StoryRequest, Talk, TextChunk,
    TextProvider, TextStream,
};

pub const NAME: &str = "scripted";
/// What it tells: some of its characters are two UTF-16 units.
pub const PROSE: &str = "The 𝄞 of the gates rang out. Rome, they said, had never fallen; it had é only \
                         slept. Night came over the seven hills, and nobody lit a lamp.";
const TAIL: &str = "\n<<<CHOICES>>>\n1. Wake the city | loud\n2. Let it sleep\n<<<STATE>>>\n\
                    {\"rome\":{\"asleep\":true},\"year\":1204}";
pub const USAGE: Usage = Usage { input_tokens: 11, output_tokens: 47 };
/// 1 micro-dollar for a token sent, 2 for one written.
pub const PRICE: Price = Price { input: 1_000_000, cached_input: 1_000_000, output: 2_000_000 };
pub const MAX_OUTPUT: u64 = 500;
/// Calls opened at the same time.
pub const WORKERS: usize = 16;
/// Pause before each chunk.
pub const PACE: Duration = Duration::from_millis(100);

/// What becomes of one call.
#[derive(Debug, Clone, Copy)]
pub enum Plan {
    /// Tells everything.
    Whole,
    Refuse(Kind),
    HangOpen,
    /// Opens, or refuses, after so many milliseconds.
    OpenLate(u64),
    RefuseLate(u64),
    PanicOpen,
    /// After so many chunks …
    Fail(usize, Kind),
    Stall(usize),
    Panic(usize),
    /// … the stream ends without its end.
    Cut(usize),
    /// Nothing but white space, then a proper end.
    Silent,
    /// Choices without a scene.
    ChoicesOnly,
    /// A scene without choices.
    ProseOnly,
    /// One choice only, and a broken patch.
    OneChoice,
    /// Everything but a patch.
    NoPatch,
}

/// The kinds that plans use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Network,
    ContentFilter,
}

impl Kind {
    fn error(self) -> ProviderError {
        let kind = match self {
            Self::Network => ProviderErrorKind::Network,
            Self::ContentFilter => ProviderErrorKind::ContentFilter,
        };
        ProviderError::new(kind, "as the script says")
    }
}

#[derive(Default)]
pub struct Script {
    plans: Mutex<VecDeque<Plan>>,
    always: Mutex<Option<Plan>>,
    pub opened: AtomicUsize,
    pub probes: AtomicUsize,
    pub talks: Mutex<Vec<String>>,
    /// What was asked for, in order.
    pub requests: Mutex<Vec<StoryRequest>>,
    /// Streams that somebody still holds, and texts that were taken from all of them.
    pub live: Arc<AtomicUsize>,
    pub told: Arc<AtomicUsize>,
    /// Begins each scene with the reader's own words.
    pub echo: AtomicBool,
}

/// A stream that somebody holds.
struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Script {
    /// What the next calls become; after them all are whole again.
    pub fn next(&self, plans: impl IntoIterator<Item = Plan>) {
        self.plans.lock().unwrap().extend(plans);
    }

    pub fn always(&self, plan: Option<Plan>) {
        *self.always.lock().unwrap() = plan;
    }

    pub fn calls(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }
}

enum Last {
    End,
    Fail(ProviderError),
    Stall,
    Panic,
    Cut,
}

/// What it tells when it is to begin with the reader's words.
pub fn echoed(words: Option<&str>) -> String {
    format!("So it was: {}. {PROSE}", words.unwrap_or("nothing"))
}

/// In pieces of a few characters.
fn chunks(text: &str) -> VecDeque<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(16).map(|chunk| chunk.iter().collect()).collect()
}

#[async_trait]
impl TextProvider for Script {
    fn name(&self) -> &str {
        NAME
    }

    fn model(&self) -> &str {
        "model-1"
    }

    fn price(&self) -> Price {
        PRICE
    }

    fn max_output_tokens(&self) -> Option<u64> {
        Some(MAX_OUTPUT)
    }

    async fn open(&self, request: StoryRequest) -> Result<TextStream, ProviderError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        let planned = self.plans.lock().unwrap().pop_front();
        let plan = planned.or(*self.always.lock().unwrap()).unwrap_or(Plan::Whole);
        self.requests.lock().unwrap().push(request.clone());
        let prose = match request.variation {
            0 if self.echo.load(Ordering::SeqCst) => echoed(request.via.text()),
            0 => PROSE.to_owned(),
            variation => format!("Told anew, {variation}. {PROSE}"),
        };
        let mut text = match request.prose_done {
            true => TAIL.to_owned(),
            // As vendors do: the last words once more.
            false => match prose.strip_prefix(&request.shown) {
                Some(rest) if !request.shown.is_empty() => {
                    let words: Vec<&str> = request.shown.split_inclusive(' ').collect();
                    let again = words[words.len().saturating_sub(3)..].concat();
                    format!("{again}{rest}{TAIL}")
                }
                Some(rest) => format!("{rest}{TAIL}"),
                None => format!(" And then: {prose}{TAIL}"),
            },
        };
        let (limit, last) = match plan {
            Plan::Refuse(kind) => return Err(kind.error()),
            Plan::HangOpen => std::future::pending().await,
            Plan::RefuseLate(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                return Err(Kind::Network.error());
            }
            Plan::OpenLate(millis) => {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                (usize::MAX, Last::End)
            }
            Plan::PanicOpen => panic!("as the script says"),
            Plan::Whole => (usize::MAX, Last::End),
            Plan::Fail(after, kind) => (after, Last::Fail(kind.error())),
            Plan::Stall(after) => (after, Last::Stall),
            Plan::Panic(after) => (after, Last::Panic),
            Plan::Cut(after) => (after, Last::Cut),
            Plan::Silent => {
                text = " \n ".into();
                (usize::MAX, Last::End)
            }
            Plan::ChoicesOnly => {
                text = TAIL.into();
                (usize::MAX, Last::End)
            }
            Plan::ProseOnly => {
                text = prose;
                (usize::MAX, Last::End)
            }
            Plan::OneChoice => {
                text = format!("{prose}\n<<<CHOICES>>>\n1. Only this\n<<<STATE>>>\n{{\"broken\":");
                (usize::MAX, Last::End)
            }
            Plan::NoPatch => {
                text.truncate(text.find("<<<STATE>>>").unwrap_or(text.len()));
                (usize::MAX, Last::End)
            }
        };
        let mut chunks = chunks(&text);
        chunks.truncate(limit);
        self.live.fetch_add(1, Ordering::SeqCst);
        let (held, told) = (Held(Arc::clone(&self.live)), Arc::clone(&self.told));
        Ok(Box::pin(stream::unfold(Some((chunks, last, held, told)), |state| async {
            let (mut chunks, last, held, told) = state?;
            tokio::time::sleep(PACE).await;
            if let Some(chunk) = chunks.pop_front() {
                told.fetch_add(1, Ordering::SeqCst);
                return Some((Ok(TextChunk::Text(chunk)), Some((chunks, last, held, told))));
            }
            match last {
                Last::End => {
                    let reason = EndReason::Complete;
                    Some((Ok(TextChunk::End { reason, usage: USAGE }), None))
                }
                Last::Fail(error) => Some((Err(error), None)),
                Last::Panic => panic!("as the script says"),
                Last::Cut => None,
                // A provider's own deadline between bytes.
                Last::Stall => {
                    tokio::time::sleep(Duration::from_secs(15)).await;
                    let deadline = crate::providers::text::Deadline::BetweenBytes;
                    let kind = ProviderErrorKind::Timeout(deadline);
                    Some((Err(ProviderError::new(kind, "stalled")), None))
                }
            }
        })))
    }

    async fn converse(&self, talk: Talk) -> Result<TextStream, ProviderError> {
        let mut talks = self.talks.lock().unwrap();
        talks.push(talk.messages[1].content.clone());
        let text = TextChunk::Text(format!("  Summary\n\nnumber {}. ", talks.len()));
        let end = TextChunk::End { reason: EndReason::Complete, usage: USAGE };
        Ok(Box::pin(stream::iter([Ok(text), Ok(end)])))
    }

    async fn probe(&self) -> Result<(), ProviderError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}
