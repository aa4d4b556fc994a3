//! A running call: the library's events as text chunks, under the provider's deadlines.
//!
//! There is one timer per call. It is not moved for every chunk: when it fires, it looks at the time of the last frame and
//! is set anew if that was recent enough.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use genai::chat::{
    ChatFrameSink, ChatStream, ChatStreamEvent, FrameCtx, RawFrameRef, StopReason, StreamEnd,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::error::{Classify, Failure};
use crate::domain::scenario::Usage;
use crate::providers::text::{Deadline, EndReason, ProviderError, ProviderErrorKind, TextChunk};

/// For servers that report no usage: about so many bytes of UTF-8 make a token, in most languages.
const BYTES_PER_TOKEN: usize = 4;

#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From the call's start to its first frame.
    pub first_byte: Duration,
    /// From one frame to the next; a comment that keeps the connection alive is a frame.
    pub between_bytes: Duration,
    /// From the first try's start to the end.
    pub whole: Duration,
}

/// When the last frame came. The library calls it for every frame, also those that yield no event.
#[derive(Debug)]
pub(super) struct Activity {
    since: Instant,
    /// Microseconds after `since`, plus one; 0 for none yet.
    last_us: AtomicU64,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { since: Instant::now(), last_us: AtomicU64::new(0) })
    }

    fn last(&self) -> Option<Instant> {
        let us = self.last_us.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.since + Duration::from_micros(us))
    }
}

impl ChatFrameSink for Activity {
    fn on_frame(&self, _: &FrameCtx, _: RawFrameRef<'_>) {
        let us = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.last_us.store(us + 1, Ordering::Relaxed);
    }
}

/// Dropping it drops the connection, and with it the vendor's work.
pub(super) struct Relay {
    /// `None` once the call is over.
    events: Option<ChatStream>,
    deadlines: Deadlines,
    activity: Arc<Activity>,
    whole_until: Instant,
    timer: Pin<Box<Sleep>>,
    /// The item that [`Relay::first_text`] took.
    first: Option<TextChunk>,
    permit: Option<OwnedSemaphorePermit>,
    input_bytes: usize,
    output_bytes: usize,
    classify: Classify,
}

impl Relay {
    pub(super) fn new(
        events: ChatStream,
        deadlines: Deadlines,
        started: Instant,
        activity: Arc<Activity>,
        input_bytes: usize,
        classify: Classify,
    ) -> Self {
        let whole_until = started + deadlines.whole;
        // Not later than any deadline can be, whenever the first frame comes.
        let first_until =
            (activity.since + deadlines.first_byte.min(deadlines.between_bytes)).min(whole_until);
        Self {
            events: Some(events),
            deadlines,
            activity,
            whole_until,
            timer: Box::pin(tokio::time::sleep_until(first_until)),
            first: None,
            permit: None,
            input_bytes,
            output_bytes: 0,
            classify,
        }
    }

    /// Waits for the first text or the end and keeps it for the stream.
    pub(super) async fn first_text(&mut self) -> Result<(), Failure> {
        self.first = Some(futures::future::poll_fn(|cx| self.poll_item(cx)).await?);
        Ok(())
    }

    /// Counts as running until it is over.
    pub(super) fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        if self.events.is_some() {
            self.permit = Some(permit);
        }
        self
    }

    /// The next text or the end; not to be called after the end or an error.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<TextChunk, Failure>> {
        loop {
            let Some(events) = &mut self.events else {
                return Poll::Ready(Err(protocol("the call is over").into()));
            };
            let event = match events.poll_next_unpin(cx) {
                Poll::Ready(event) => event,
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(cx));
                    match self.next_deadline() {
                        Ok(until) => self.timer.as_mut().reset(until),
                        Err(deadline) => return Poll::Ready(Err(timeout(deadline).into())),
                    }
                    continue;
                }
            };
            // A stream that is always ready never lets the timer be looked at.
            if self.activity.last().is_some_and(|last| last >= self.whole_until) {
                return Poll::Ready(Err(timeout(Deadline::Whole).into()));
            }
            match event {
                Some(Ok(ChatStreamEvent::Chunk(chunk))) if !chunk.content.is_empty() => {
                    self.output_bytes += chunk.content.len();
                    return Poll::Ready(Ok(TextChunk::Text(chunk.content)));
                }
                Some(Ok(ChatStreamEvent::End(end))) => return Poll::Ready(self.end(end)),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(self.classify.failure(&error))),
                None => {
                    return Poll::Ready(
                        Err(protocol("the stream broke off before its end").into()),
                    );
                }
            }
        }
    }

    /// The next time to look again, or the deadline that is over. No deadline can come before that time, whatever arrives
    /// until then.
    fn next_deadline(&self) -> Result<Instant, Deadline> {
        let now = Instant::now();
        let (silent_until, look_again, deadline) = match self.activity.last() {
            None => {
                let until = self.activity.since + self.deadlines.first_byte;
                (until, until.min(now + self.deadlines.between_bytes), Deadline::FirstByte)
            }
            Some(last) => {
                let until = last + self.deadlines.between_bytes;
                (until, until, Deadline::BetweenBytes)
            }
        };
        if now >= self.whole_until {
            Err(Deadline::Whole)
        } else if now >= silent_until {
            Err(deadline)
        } else {
            Ok(look_again.min(self.whole_until))
        }
    }

    fn end(&self, end: StreamEnd) -> Result<TextChunk, Failure> {
        let reason = match end.captured_stop_reason {
            Some(StopReason::MaxTokens(_)) => EndReason::Length,
            Some(StopReason::ContentFilter(_)) => {
                let message = "the vendor's filter stopped the text";
                return Err(ProviderError::new(ProviderErrorKind::ContentFilter, message).into());
            }
            Some(_) => EndReason::Complete,
            None => return Err(protocol("the stream ended without a finish reason").into()),
        };
        let reported = end.captured_usage.unwrap_or_default();
        let tokens = |reported: Option<i32>, bytes: usize| match reported {
            Some(tokens) => u64::try_from(tokens).unwrap_or(0),
            None => bytes.div_ceil(BYTES_PER_TOKEN) as u64,
        };
        let usage = Usage {
            input_tokens: tokens(reported.prompt_tokens, self.input_bytes),
            output_tokens: tokens(reported.completion_tokens, self.output_bytes),
        };
        Ok(TextChunk::End { reason, usage })
    }
}

impl Stream for Relay {
    type Item = Result<TextChunk, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = match self.first.take() {
            Some(first) => Ok(first),
            None if self.events.is_none() => return Poll::Ready(None),
            None => ready!(self.poll_item(cx)).map_err(|failure| failure.error),
        };
        if !matches!(item, Ok(TextChunk::Text(_))) {
            self.events = None;
            self.permit = None;
        }
        Poll::Ready(Some(item))
    }
}

fn protocol(message: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Protocol, message)
}

fn timeout(deadline: Deadline) -> ProviderError {
    let message = match deadline {
        Deadline::Connect => "no connection in time",
        Deadline::FirstByte => "no answer in time",
        Deadline::BetweenBytes => "the stream stalled",
        Deadline::Whole => "the whole call took too long",
    };
    ProviderError::new(ProviderErrorKind::Timeout(deadline), message)
}
