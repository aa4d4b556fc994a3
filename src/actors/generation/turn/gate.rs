//! Moderation of what a model tells: a stream goes in, the same stream comes out, of which nothing is passed on before its
//! verdict.
//!
//! The pump reads what comes out as if the provider had said it, so that without moderation nothing stands between them. The
//! stream is taken apart first, since what readers see is what is judged: prose in windows, each choice with its hint,
//! the texts of the state patch. Prose that is blocked ends the stream as the provider's failure; a blocked choice or patch
//! is left out like an invalid one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures::future::{BoxFuture, FutureExt, ready as at_once};
use futures::stream::{FuturesOrdered, Stream, StreamExt};

use super::script::Running;
use crate::actors::generation::draft::Draft;
use crate::actors::generation::text::TextHandle;
use crate::actors::moderation::{Judged, Moderator};
use crate::domain::budget::estimate_tokens;
use crate::domain::overlap::OverlapTrimmer;
use crate::domain::patch::{self, Object};
use crate::domain::scenario::Usage;
use crate::domain::turn_format::{CHOICES_MARKER, Piece, ProseVerdict, STATE_MARKER, TurnParser};
use crate::domain::windows::{Window, Windows};
use crate::providers::text::{EndReason, ProviderError, ProviderErrorKind, TextChunk, TextStream};

/// Verdicts that one turn waits for at the same time.
const AT_ONCE: usize = 4;
/// Pieces that wait for theirs before the provider is left alone.
const FULL: usize = 16;

/// What a gate leaves behind.
#[derive(Default)]
pub(super) struct Tally {
    /// About how many tokens the provider has written, shown or not.
    pub written: AtomicU64,
    /// Something was shown that nobody could judge.
    pub unchecked: AtomicBool,
}

pub(super) struct Gate {
    source: Option<TextStream>,
    parser: Option<TurnParser>,
    trimmer: Option<OverlapTrimmer>,
    /// All that was read.
    raw: String,
    windows: Windows,
    /// Pieces with what is to be judged of them, if anything.
    queued: VecDeque<(Held, Option<String>)>,
    /// Those whose verdicts are awaited, in the same order.
    held: VecDeque<Held>,
    verdicts: FuturesOrdered<BoxFuture<'static, Judged>>,
    moderator: Arc<Moderator>,
    /// What the source ended with.
    end: Option<Result<TextChunk, ProviderError>>,
    choices: usize,
    tally: Arc<Tally>,
}

/// A piece of the scene.
enum Held {
    Text(String),
    ProseDone,
    Choice { label: String, hint: Option<String> },
    ChoicesDone,
    Patch(Object),
}

impl Running {
    /// The stream with the gate before it, and what that will leave; or just the stream, where nothing is judged.
    pub(super) fn gated(
        &self,
        draft: &Draft,
        text: &TextHandle,
        stream: TextStream,
        parser: TurnParser,
        trimmer: Option<OverlapTrimmer>,
    ) -> (TextStream, Option<OverlapTrimmer>, Option<Arc<Tally>>) {
        let Some(moderator) = self.deps.moderation.moderator().filter(|_| !text.trusted) else {
            return (stream, trimmer, None);
        };
        let tally = Arc::<Tally>::default();
        let gate = Gate {
            source: Some(stream),
            parser: Some(parser),
            trimmer,
            raw: String::new(),
            windows: Windows::new(moderator.window_chars, &draft.text),
            queued: VecDeque::new(),
            held: VecDeque::new(),
            verdicts: FuturesOrdered::new(),
            moderator: Arc::clone(moderator),
            end: None,
            choices: 0,
            tally: Arc::clone(&tally),
        };
        (Box::pin(gate), None, Some(tally))
    }

    /// Judges once more what was shown of a draft while nobody could; the category if it is blocked after all.
    pub(super) async fn blocked_after_all(&self, draft: &Draft) -> Option<String> {
        let moderator = self.deps.moderation.moderator().filter(|_| self.unchecked)?;
        let choices =
            draft.choices.iter().map(|choice| choice_text(&choice.label, choice.hint.as_deref()));
        let patch = draft.patch.iter().map(patch::texts);
        let parts: Vec<_> = [draft.text.clone()].into_iter().chain(choices).chain(patch).collect();
        match moderator.judge(&parts.join("\n")).await {
            Judged::Allowed => None,
            Judged::Blocked(category) => Some(category),
            Judged::Unchecked => {
                tracing::warn!(scenario = %self.scenario.id, scene = %draft.scene, "a scene is kept that nobody could check");
                metrics::counter!("whatif_moderation_unchecked_scenes_total").increment(1);
                None
            }
        }
    }
}

impl Gate {
    /// Takes what the source gave.
    fn take(&mut self, item: Option<Result<TextChunk, ProviderError>>) {
        match item {
            Some(Ok(TextChunk::Text(text))) => {
                self.raw.push_str(&text);
                let kept = match &mut self.trimmer {
                    None => text.into(),
                    Some(trimmer) => trimmer.push(&text),
                };
                self.parse(&kept);
                if self.parser.as_ref().is_none_or(TurnParser::is_over) {
                    self.finish(EndReason::Complete, Usage::default());
                }
            }
            Some(Ok(TextChunk::End { reason, usage })) => self.finish(reason, usage),
            // What is certain is told all the same.
            broken => self.end(broken),
        }
    }

    fn parse(&mut self, text: &str) {
        let Some(parser) = &mut self.parser else { return };
        let mut pieces = Vec::new();
        parser.push(text, &mut |piece: Piece<'_>| pieces.push(piece.into()));
        pieces.into_iter().for_each(|piece| self.hold(piece));
    }

    /// The source has ended by itself.
    fn finish(&mut self, reason: EndReason, usage: Usage) {
        if let Some(mut trimmer) = self.trimmer.take() {
            self.parse(&trimmer.finish());
        }
        let Some(parser) = self.parser.take() else { return };
        let mut pieces = Vec::new();
        let verdict = parser.finish(&mut |piece: Piece<'_>| pieces.push(piece.into()));
        pieces.into_iter().for_each(|piece| self.hold(piece));
        let cut = verdict.prose == ProseVerdict::TooLong;
        let reason = if cut { EndReason::Length } else { reason };
        self.end(Some(Ok(TextChunk::End { reason, usage })));
    }

    fn end(&mut self, end: Option<Result<TextChunk, ProviderError>>) {
        self.flush();
        self.source = None;
        self.end = end;
    }

    fn hold(&mut self, piece: Held) {
        let judged = match &piece {
            Held::Text(text) => {
                self.windows.push(text);
                while let Some(window) = self.windows.pop() {
                    self.queue(window);
                }
                return;
            }
            Held::ProseDone | Held::ChoicesDone => None,
            Held::Choice { label, hint } => Some(choice_text(label, hint.as_deref())),
            Held::Patch(changes) => Some(patch::texts(changes)),
        };
        self.flush();
        self.queued.push_back((piece, judged.filter(|text| !text.is_empty())));
    }

    fn flush(&mut self) {
        if let Some(window) = self.windows.finish() {
            self.queue(window);
        }
    }

    fn queue(&mut self, window: Window) {
        let judged = window.whole();
        self.queued.push_back((Held::Text(window.text), Some(judged)));
    }

    /// Asks for verdicts, as many at a time as may be.
    fn ask(&mut self) {
        while self.verdicts.len() < AT_ONCE
            && let Some((piece, judged)) = self.queued.pop_front()
        {
            let moderator = Arc::clone(&self.moderator);
            self.verdicts.push_back(match judged {
                None => at_once(Judged::Allowed).boxed(),
                Some(text) => async move { moderator.judge(&text).await }.boxed(),
            });
            self.held.push_back(piece);
        }
    }

    /// Passes the oldest piece on, or not.
    fn release(&mut self, judged: Judged) -> Option<Result<TextChunk, ProviderError>> {
        let piece = self.held.pop_front()?;
        match judged {
            Judged::Allowed => {}
            Judged::Unchecked if self.moderator.lets_unchecked_pass() => {
                self.tally.unchecked.store(true, Ordering::Relaxed);
            }
            Judged::Unchecked => return self.shut(ProviderErrorKind::Unchecked, "no verdict"),
            Judged::Blocked(category) => match piece {
                Held::Text(_) => return self.shut(ProviderErrorKind::ContentBlocked, &category),
                Held::Choice { .. } | Held::Patch(_) => {
                    tracing::info!(category, "a choice or state patch was left out");
                    return None;
                }
                Held::ProseDone | Held::ChoicesDone => {}
            },
        }
        Some(Ok(TextChunk::Text(self.told(piece))))
    }

    /// A piece in the turn format.
    fn told(&mut self, piece: Held) -> String {
        match piece {
            Held::Text(text) => text,
            Held::ProseDone => format!("\n{CHOICES_MARKER}\n"),
            Held::Choice { label, hint } => {
                self.choices += 1;
                let hint = hint.map(|hint| format!(" | {hint}")).unwrap_or_default();
                format!("\n{}. {label}{hint}\n", self.choices)
            }
            Held::ChoicesDone => format!("\n{STATE_MARKER}\n"),
            Held::Patch(changes) => serde_json::Value::Object(changes).to_string(),
        }
    }

    /// Nothing more is passed on.
    fn shut(
        &mut self,
        kind: ProviderErrorKind,
        why: &str,
    ) -> Option<Result<TextChunk, ProviderError>> {
        (self.source, self.end) = (None, None);
        self.queued.clear();
        self.held.clear();
        self.verdicts = FuturesOrdered::new();
        Some(Err(ProviderError::new(kind, why)))
    }
}

impl Stream for Gate {
    type Item = Result<TextChunk, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let gate = &mut *self;
        loop {
            gate.ask();
            if let Poll::Ready(Some(judged)) = gate.verdicts.poll_next_unpin(context) {
                if let Some(item) = gate.release(judged) {
                    return Poll::Ready(Some(item));
                }
                continue;
            }
            match &mut gate.source {
                Some(_) if gate.queued.len() >= FULL => return Poll::Pending,
                Some(source) => {
                    let item = ready!(source.poll_next_unpin(context));
                    gate.take(item);
                }
                None if gate.verdicts.is_empty() => return Poll::Ready(gate.end.take()),
                None => return Poll::Pending,
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.tally.written.store(estimate_tokens(&self.raw), Ordering::Relaxed);
    }
}

impl From<Piece<'_>> for Held {
    fn from(piece: Piece<'_>) -> Self {
        match piece {
            Piece::Text(text) => Held::Text(text.to_owned()),
            Piece::ProseDone => Held::ProseDone,
            Piece::Choice { label, hint } => Held::Choice { label, hint },
            Piece::ChoicesDone => Held::ChoicesDone,
            Piece::Patch(changes) => Held::Patch(changes),
        }
    }
}

fn choice_text(label: &str, hint: Option<&str>) -> String {
    match hint {
        None => label.to_owned(),
        Some(hint) => format!("{label}\n{hint}"),
    }
}
