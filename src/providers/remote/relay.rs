//! A running call: the body's events as text chunks, under the provider's deadlines.
//!
//! There is one timer per call. It is not moved for every piece: when it fires, it looks at the time of the last frame and
//! is set anew if that was recent enough. All texts that one piece of the body brings are handed over as one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use hyper::body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::error::Failure;
use super::said::Said;
use super::wire::Wire;
use crate::providers::text::{Deadline, ProviderError, ProviderErrorKind, TextChunk};

#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// From the call's start to its first frame.
    pub first_byte: Duration,
    /// From one frame to the next; a comment that keeps the connection alive is a frame.
    pub between_bytes: Duration,
    /// From the first try's start to the end.
    pub whole: Duration,
}

/// When what is due.
#[derive(Debug)]
pub(super) struct Watch {
    deadlines: Deadlines,
    /// The start of this try.
    since: Instant,
    whole_until: Instant,
    last_frame: Option<Instant>,
}

impl Watch {
    /// Of a try that starts now, the first of them at `started`.
    pub(super) fn new(deadlines: Deadlines, started: Instant) -> Self {
        let whole_until = started + deadlines.whole;
        Self { deadlines, since: Instant::now(), whole_until, last_frame: None }
    }

    pub(super) fn first_until(&self) -> Instant {
        (self.since + self.deadlines.first_byte).min(self.whole_until)
    }

    /// What [`Watch::first_until`] means once it is over.
    pub(super) fn missed_first(&self) -> Failure {
        let whole = self.first_until() == self.whole_until;
        timeout(if whole { Deadline::Whole } else { Deadline::FirstByte }).into()
    }

    /// The next time to look again, or the deadline that is over. No deadline can come before that time, whatever arrives
    /// until then.
    fn next(&self) -> Result<Instant, Deadline> {
        let now = Instant::now();
        let (silent_until, look_again, deadline) = match self.last_frame {
            None => {
                let until = self.since + self.deadlines.first_byte;
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
}

/// Dropping it drops the connection, and with it the vendor's work.
pub(super) struct Relay<W> {
    /// `None` once the call is over.
    body: Option<reqwest::Body>,
    wire: W,
    said: Said,
    watch: Watch,
    timer: Pin<Box<Sleep>>,
    /// The item that [`Relay::first_text`] took.
    first: Option<TextChunk>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<W: Wire> Relay<W> {
    pub(super) fn new(body: reqwest::Body, wire: W, watch: Watch, mut said: Said) -> Self {
        // Not later than any deadline can be, whenever the first frame comes.
        let look = watch.first_until().min(Instant::now() + watch.deadlines.between_bytes);
        said.begun();
        Self {
            body: Some(body),
            wire,
            said,
            watch,
            timer: Box::pin(tokio::time::sleep_until(look)),
            first: None,
            permit: None,
        }
    }

    /// Waits for the first text or the end and keeps it for the stream.
    pub(super) async fn first_text(&mut self) -> Result<(), Failure> {
        self.first = Some(futures::future::poll_fn(|cx| self.poll_item(cx)).await?);
        Ok(())
    }

    /// Counts as running until it is over.
    pub(super) fn holding(mut self, permit: OwnedSemaphorePermit) -> Self {
        if self.body.is_some() {
            self.permit = Some(permit);
        }
        self
    }

    /// The next text or the end; not to be called after the end or an error.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<TextChunk, Failure>> {
        loop {
            if let Some(over) = self.said.take_over() {
                return Poll::Ready(over);
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(Err(self.said.classify().protocol("the call is over", &"")));
            };
            match Pin::new(body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(piece) = frame.into_data() else { continue };
                    match self.wire.push(&piece, &mut self.said) {
                        Ok(true) => self.watch.last_frame = Some(Instant::now()),
                        Ok(false) => {}
                        Err(error) => self.said.garbled("unreadable stream", &error),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(self.said.classify().transport(&error).into()));
                }
                Poll::Ready(None) => {
                    if let Err(error) = self.wire.finish(&mut self.said) {
                        self.said.garbled("unreadable stream", &error);
                    }
                    self.said.garbled("the stream broke off before its end", &"");
                }
                Poll::Pending => {
                    ready!(self.timer.as_mut().poll(cx));
                    match self.watch.next() {
                        Ok(until) => self.timer.as_mut().reset(until),
                        Err(deadline) => return Poll::Ready(Err(timeout(deadline).into())),
                    }
                    continue;
                }
            }
            // A stream that is always ready never lets the timer be looked at.
            if self.watch.last_frame.is_some_and(|last| last >= self.watch.whole_until) {
                return Poll::Ready(Err(timeout(Deadline::Whole).into()));
            }
            if let Some(text) = self.said.take_text() {
                return Poll::Ready(Ok(TextChunk::Text(text)));
            }
        }
    }
}

impl<W: Wire> Stream for Relay<W> {
    type Item = Result<TextChunk, ProviderError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = match self.first.take() {
            Some(first) => Ok(first),
            None if self.body.is_none() => return Poll::Ready(None),
            None => ready!(self.poll_item(cx)).map_err(|failure| failure.error),
        };
        if !matches!(item, Ok(TextChunk::Text(_))) {
            self.body = None;
            self.permit = None;
        }
        Poll::Ready(Some(item))
    }
}

/// A probe that got no answer.
pub(super) fn missed_probe() -> Failure {
    timeout(Deadline::FirstByte).into()
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
