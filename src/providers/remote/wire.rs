//! From the pieces in which a body arrives to what a vendor says in it.

use std::borrow::Cow;
use std::ops::{ControlFlow, Deref};

use serde::Deserialize;

use super::said::Said;

/// Most bytes of one event, whatever a server sends.
pub(in crate::providers) const MAX_EVENT_BYTES: usize = 256 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::providers) enum FrameError {
    #[error("an event of more than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    #[error("a line that is not UTF-8")]
    NotText,
    #[error("a message that cannot be read: {0}")]
    Unreadable(String),
}

/// Reads one answer. After an error the rest cannot be read.
pub(in crate::providers) trait Wire: Send + Unpin + 'static {
    /// Tells `said` what ends within `piece`; what follows the answer's end is not read. Returns whether anything ended, be
    /// it a comment: a sign of life.
    ///
    /// # Errors
    /// If this is not the vendor's framing.
    fn push(&mut self, piece: &[u8], said: &mut Said) -> Result<bool, FrameError>;

    /// The body is over. Some servers do not end their last event, which counts nevertheless.
    ///
    /// # Errors
    /// As for [`Wire::push`].
    fn finish(&mut self, said: &mut Said) -> Result<(), FrameError>;
}

/// Takes a body apart into events of text.
pub(in crate::providers) trait Framing:
    Default + Send + Unpin + 'static
{
    /// Hands the data of every event that ends within `piece` to `sink`, until that breaks; what follows is then lost.
    /// Returns whether any line ended.
    ///
    /// # Errors
    /// After an error the rest cannot be read.
    fn push(
        &mut self,
        piece: &[u8],
        sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<bool, FrameError>;

    /// # Errors
    /// As for [`Framing::push`].
    fn finish(&mut self, sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>)
    -> Result<(), FrameError>;
}

/// Knows what a vendor's events mean.
pub(in crate::providers) trait Events:
    Default + Send + Unpin + 'static
{
    fn hear(&mut self, data: &[u8], said: &mut Said);

    /// The body ended, in good order below this level, and no event was the last. `Some` if it is whole all the same.
    fn is_whole(&self, said: &Said) -> bool {
        let _ = said;
        false
    }
}

/// A vendor's events in a framing.
#[derive(Default)]
pub(in crate::providers) struct Framed<F, E> {
    framing: F,
    events: E,
}

impl<F: Framing, E: Events> Wire for Framed<F, E> {
    fn push(&mut self, piece: &[u8], said: &mut Said) -> Result<bool, FrameError> {
        let events = &mut self.events;
        self.framing.push(piece, &mut |data| {
            events.hear(data, said);
            said.flow()
        })
    }

    fn finish(&mut self, said: &mut Said) -> Result<(), FrameError> {
        let events = &mut self.events;
        self.framing.finish(&mut |data| {
            events.hear(data, said);
            said.flow()
        })?;
        if self.events.is_whole(said) {
            said.end();
        }
        Ok(())
    }
}

/// A string in an event, copied only if it has escapes. Serde would copy every bare `Option<Cow<str>>`.
#[derive(Debug, Deserialize)]
pub(in crate::providers) struct Word<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Word<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}
