//! The hot path: reads a provider's stream, parses it, and logs what is certain, in as few writes as reading pace
//! allows.
//!
//! The first text of a stream is logged at once: a reader has waited for it, be it for a scene to begin or for the next
//! provider to go on with one. After that text gathers for at most the coalescing time (or until it is
//! plenty), so that one write serves several tokens. A stream at reading pace is left alone meanwhile, so that its
//! tokens wake nobody; a fast one, which has more as soon as something was written, is read on and never held up.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, Sleep};

use super::signals::{Interruption, Signals};
use crate::actors::generation::draft::Draft;
use crate::actors::generation::writer::{LogWriter, WriteError};
use crate::domain::defuse::{Defuser, defuse};
use crate::domain::event::Event;
use crate::domain::overlap::OverlapTrimmer;
use crate::domain::patch::Object;
use crate::domain::scenario::{Choice, Usage};
use crate::domain::turn_format::{MIN_CHOICES, Piece, ProseVerdict, TurnParser};
use crate::domain::world_state::admissible;
use crate::providers::text::{EndReason, ProviderError, ProviderErrorKind, TextChunk, TextStream};

/// Text that is logged without waiting for more.
const FULL_BYTES: usize = 8 * 1024;
/// A stream that has more this soon after a write is a fast one.
const BACKLOG: Duration = Duration::from_millis(2);
/// Pauses of different turns end together where they can: one wake-up of the process serves them all.
const GRID: Duration = Duration::from_millis(5);
static GRID_BASE: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself; the verdict tells what is missing.
    Over {
        reason: EndReason,
        usage: Usage,
    },
    Failed(ProviderError),
    Stopped,
    Halted,
}

pub(super) struct Pump<'a> {
    pub writer: &'a mut LogWriter,
    pub draft: &'a mut Draft,
    pub signals: &'a Signals,
    pub coalesce: Duration,
    /// The world's state before the scene, if what the stream says about it has to be looked at.
    pub state: Option<Arc<Object>>,
}

/// Events that are certain and not logged yet, in order; the newest text is kept apart so that it can grow.
#[derive(Default)]
struct Pending {
    events: Vec<Event>,
    text: String,
    text_off: usize,
    next_choice: usize,
    defuser: Defuser,
    state: Option<Arc<Object>>,
}

impl Pump<'_> {
    /// Reads `stream` to its end. Everything certain is logged when this returns, also after a failure or a stop.
    pub async fn run(
        &mut self,
        mut stream: TextStream,
        parser: TurnParser,
        trimmer: Option<OverlapTrimmer>,
    ) -> Result<Ended, WriteError> {
        let mut reading = Reading {
            parser: Some(parser),
            trimmer,
            pending: Pending {
                next_choice: self.draft.choices.len() + 1,
                state: self.state.clone(),
                ..Pending::default()
            },
            end: None,
        };
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut gathering = Gathering::No;
        let mut written = Instant::now();
        let at_first = self.draft.units;
        let ended = loop {
            let woken =
                poll_fn(|context| self.poll(&mut stream, timer.as_mut(), gathering, context));
            let mut ended = match woken.await {
                Woken::Interrupted(Interruption::Stopped) => break Ended::Stopped,
                Woken::Interrupted(Interruption::Halted) => break Ended::Halted,
                Woken::Due => {
                    gathering = Gathering::Over;
                    None
                }
                Woken::Chunk(chunk) => reading.take(self.draft, chunk),
            };
            let begins = gathering == Gathering::No && !reading.pending.text.is_empty();
            if begins && ended.is_none() && self.may_wait(&reading.pending, at_first) {
                let now = Instant::now();
                let fast = now - written < BACKLOG;
                gathering = if fast { Gathering::Reading } else { Gathering::Resting };
                timer.as_mut().reset(self.due(now));
                if !fast {
                    continue;
                }
            }
            // Whatever else is there already.
            while ended.is_none()
                && reading.pending.text.len() < FULL_BYTES
                && let Some(chunk) = stream.next().now_or_never()
            {
                ended = reading.take(self.draft, chunk);
            }
            if let Some(ended) = ended {
                break ended;
            }
            if gathering == Gathering::Over || !self.may_wait(&reading.pending, at_first) {
                self.log(&mut reading.pending).await?;
                gathering = Gathering::No;
                written = Instant::now();
            }
        };
        self.log(&mut reading.pending).await?;
        Ok(ended)
    }

    fn poll(
        &self,
        stream: &mut TextStream,
        timer: Pin<&mut Sleep>,
        gathering: Gathering,
        context: &mut Context<'_>,
    ) -> Poll<Woken> {
        if let Poll::Ready(why) = self.signals.poll_interrupted(context) {
            return Poll::Ready(Woken::Interrupted(why));
        }
        if gathering != Gathering::No && timer.poll(context).is_ready() {
            return Poll::Ready(Woken::Due);
        }
        match gathering {
            Gathering::Resting => Poll::Pending,
            _ => stream.poll_next_unpin(context).map(Woken::Chunk),
        }
    }

    /// Whether what is pending is worth waiting for more; `at_first` is where the stream began.
    fn may_wait(&self, pending: &Pending, at_first: usize) -> bool {
        !self.coalesce.is_zero()
            && self.draft.units > at_first
            && pending.events.is_empty()
            && pending.text.len() < FULL_BYTES
    }

    /// When text that arrived at `now` is to be written: after the coalescing time at most.
    fn due(&self, now: Instant) -> Instant {
        let latest = now + self.coalesce;
        if self.coalesce < GRID * 2 {
            return latest;
        }
        let past = latest.saturating_duration_since(*GRID_BASE).as_nanos() % GRID.as_nanos();
        latest - Duration::from_nanos(u64::try_from(past).unwrap_or(0))
    }

    async fn log(&mut self, pending: &mut Pending) -> Result<(), WriteError> {
        pending.close_text(self.draft);
        if pending.events.is_empty() {
            return Ok(());
        }
        self.writer.append(&pending.events, None).await?;
        for event in pending.events.drain(..) {
            self.draft.apply(&event);
        }
        Ok(())
    }
}

/// What the pump does about text that waits for more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gathering {
    /// None waits.
    No,
    /// The stream is fast: it is read on.
    Reading,
    /// The stream is left alone.
    Resting,
    /// It has waited enough.
    Over,
}

enum Woken {
    Interrupted(Interruption),
    /// The gathered text has waited enough.
    Due,
    Chunk(Option<Result<TextChunk, ProviderError>>),
}

struct Reading {
    parser: Option<TurnParser>,
    trimmer: Option<OverlapTrimmer>,
    pending: Pending,
    end: Option<(EndReason, Usage)>,
}

impl Reading {
    /// Takes what the stream gave; returns how it ended, once it has.
    fn take(
        &mut self,
        draft: &Draft,
        chunk: Option<Result<TextChunk, ProviderError>>,
    ) -> Option<Ended> {
        let text = match chunk {
            Some(Ok(TextChunk::Text(text))) => text,
            Some(Ok(TextChunk::End { reason, usage })) => {
                self.end = Some((reason, usage));
                return Some(self.finish(draft));
            }
            Some(Err(error)) => return Some(Ended::Failed(error)),
            None => {
                let error = "the stream ended without saying so";
                return Some(Ended::Failed(ProviderError::new(ProviderErrorKind::Protocol, error)));
            }
        };
        let parser = self.parser.as_mut()?;
        let pending = &mut self.pending;
        let mut sink = |piece: Piece<'_>| pending.add(draft, piece);
        match &mut self.trimmer {
            None => parser.push(&text, &mut sink),
            Some(trimmer) => {
                let kept = trimmer.push(&text);
                if !kept.is_empty() {
                    parser.push(&kept, &mut sink);
                }
            }
        }
        let over = parser.is_over();
        over.then(|| self.finish(draft))
    }

    fn finish(&mut self, draft: &Draft) -> Ended {
        let Some(mut parser) = self.parser.take() else { return Ended::Stopped };
        let pending = &mut self.pending;
        let mut sink = |piece: Piece<'_>| pending.add(draft, piece);
        if let Some(mut trimmer) = self.trimmer.take() {
            let rest = trimmer.finish();
            parser.push(&rest, &mut sink);
        }
        let verdict = parser.finish(&mut sink);
        let cut = verdict.prose == ProseVerdict::TooLong;
        let (reason, usage) = self.end.take().unwrap_or((EndReason::Complete, Usage::default()));
        let reason = if cut { EndReason::Length } else { reason };
        Ended::Over { reason, usage }
    }
}

impl Pending {
    fn add(&mut self, draft: &Draft, piece: Piece<'_>) {
        let turn = draft.turn;
        let silent =
            self.text.is_empty() && self.text_off.max(draft.units) == 0 && !draft.text_done;
        match piece {
            Piece::Text(text) => self.defuser.push(text, &mut self.text),
            // Choices without a scene are none: the next provider writes both.
            _ if silent => {}
            Piece::ProseDone => self.end_text(draft),
            Piece::ChoicesDone if self.next_choice > MIN_CHOICES && !draft.choices_done => {
                self.events.push(Event::ChoicesDone { turn });
            }
            // Too few: others are asked for more.
            Piece::ChoicesDone => {}
            // They are all there: this stream was asked for the patch that a cut has left out.
            Piece::Choice { .. } if draft.choices_done => {}
            Piece::Choice { label, hint } => {
                self.end_text(draft);
                let choice = Choice {
                    id: format!("c{}", self.next_choice),
                    label: defuse(&label),
                    hint: hint.as_deref().map(defuse),
                };
                self.next_choice += 1;
                self.events.push(Event::Choice { turn, choice });
            }
            Piece::Patch(_) if draft.patch.is_some() => {}
            Piece::Patch(patch) => {
                self.end_text(draft);
                let patch = match &self.state {
                    Some(state) => admissible(&patch, state),
                    None => patch,
                };
                self.events.push(Event::StatePatch { turn, patch });
            }
        }
    }

    /// Text before a choice is whole.
    fn end_text(&mut self, draft: &Draft) {
        self.defuser.finish(&mut self.text);
        self.close_text(draft);
        let said =
            draft.text_done || self.events.iter().any(|e| matches!(e, Event::TextDone { .. }));
        if !said {
            self.events.push(Event::TextDone { turn: draft.turn, len: self.text_off });
        }
    }

    fn close_text(&mut self, draft: &Draft) {
        self.text_off = self.text_off.max(draft.units);
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            let off = self.text_off;
            self.text_off += crate::domain::scenario::utf16_len(&text);
            self.events.push(Event::TextDelta { turn: draft.turn, off, text });
        }
    }
}
