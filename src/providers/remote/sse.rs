//! Server-sent events out of the pieces in which a body arrives.
//!
//! An event that lies within one piece, as nearly all do, is handed over in place; only what a piece's end cuts is copied.
//! It knows nothing of what the events carry.

use std::ops::ControlFlow;

use memchr::memchr2;

use super::wire::{FrameError, Framing, MAX_EVENT_BYTES};

#[derive(Debug, Default)]
pub(in crate::providers) struct Sse {
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// The data, joined with line feeds, of an event whose end has not come. Data of no bytes is no event.
    event: Vec<u8>,
    /// The last piece ended with a carriage return: a line feed may belong to it.
    after_return: bool,
}

impl Framing for Sse {
    fn push(
        &mut self,
        piece: &[u8],
        sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<bool, FrameError> {
        let mut rest = piece;
        if self.after_return && !rest.is_empty() {
            self.after_return = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        let mut any_line = false;
        // The event's data as long as it is one line of this piece.
        let mut in_place: &[u8] = &[];
        while let Some(at) = memchr2(b'\n', b'\r', rest) {
            any_line = true;
            let (line, end) = rest.split_at(at);
            rest = &end[1..];
            if end[0] == b'\r' {
                self.after_return = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            self.check(line.len() + in_place.len())?;
            if !self.line.is_empty() {
                self.line.extend_from_slice(line);
                self.keep(in_place);
                in_place = &[];
                let mut whole = std::mem::take(&mut self.line);
                if let Some(data) = data_of(&whole)? {
                    self.keep(data);
                }
                whole.clear();
                self.line = whole;
            } else if line.is_empty() {
                let flow = if !in_place.is_empty() {
                    sink(in_place)
                } else if !self.event.is_empty() {
                    let flow = sink(&self.event);
                    self.event.clear();
                    flow
                } else {
                    ControlFlow::Continue(())
                };
                in_place = &[];
                if flow.is_break() {
                    return Ok(true);
                }
            } else if let Some(data) = data_of(line)? {
                self.keep(in_place);
                in_place = data;
                if !self.event.is_empty() {
                    self.keep(in_place);
                    in_place = &[];
                }
            }
        }
        self.keep(in_place);
        self.check(rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(any_line)
    }

    fn finish(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), FrameError> {
        self.after_return = false;
        let ends: &[u8] = if self.line.is_empty() { b"\n" } else { b"\n\n" };
        self.push(ends, sink).map(drop)
    }
}

impl Sse {
    fn keep(&mut self, data: &[u8]) {
        if !data.is_empty() {
            if !self.event.is_empty() {
                self.event.push(b'\n');
            }
            self.event.extend_from_slice(data);
        }
    }

    fn check(&self, more: usize) -> Result<(), FrameError> {
        if self.line.len() + self.event.len() + more > MAX_EVENT_BYTES {
            return Err(FrameError::TooLong);
        }
        Ok(())
    }
}

/// Of a line with data. JSON is checked by who reads it; any other line only shows whether this is text at all.
fn data_of(line: &[u8]) -> Result<Option<&[u8]>, FrameError> {
    if let Some(data) = line.strip_prefix(b"data:") {
        return Ok(Some(data.trim_ascii()));
    }
    std::str::from_utf8(line).map(|_| None).map_err(|_| FrameError::NotText)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The events of a body that comes in these pieces.
    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, FrameError> {
        let mut frames = Sse::default();
        let mut events = Vec::new();
        let mut sink = |data: &[u8]| {
            events.push(String::from_utf8_lossy(data).into_owned());
            ControlFlow::Continue(())
        };
        for piece in pieces {
            frames.push(piece, &mut sink)?;
        }
        frames.finish(&mut sink)?;
        Ok(events)
    }

    #[test]
    fn events_are_found_whatever_ends_their_lines() {
        for (body, want) in [
            ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
            ("data:a\r\n\r\ndata:b\r\n\r\n", vec!["a", "b"]),
            ("data: a\r\rdata: b\r\r", vec!["a", "b"]),
            ("data: a\ndata: b\ndata:  c \n\n", vec!["a\nb\nc"]),
            (": hi\nevent: x\nid: 3\ndata: a\nretry: 5\n\n\n\n", vec!["a"]),
            ("data:\n\ndata: a\n\n: end\n\n", vec!["a"]),
            ("data: a\n\ndata: b", vec!["a", "b"]),
            ("data: a\n\ndata: b\n", vec!["a", "b"]),
            ("database: no\n\nnothing", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(
                events([body.as_bytes()]),
                Ok(want.iter().map(|e| (*e).into()).collect()),
                "{body:?}"
            );
            let bytes = body.as_bytes().chunks(1);
            assert_eq!(events(bytes), events([body.as_bytes()]), "{body:?} byte by byte");
        }
    }

    proptest! {
        #[test]
        fn where_a_body_is_cut_does_not_matter(
            body in "(data: ?[ab\r]{0,3}|:c|e)?(\n|\r\n|\r|\n\n|\r\n\r\n){1,2}(data:é\n\n|data: x\r\n){0,4}",
            cuts in prop::collection::vec(0_usize..64, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &body.as_bytes()[cut[0]..cut[1]]);
            prop_assert_eq!(events(pieces), events([body.as_bytes()]));
        }
    }

    #[test]
    fn an_event_is_bounded_however_it_comes() {
        let fits = format!("data: {}\n\n", "x".repeat(MAX_EVENT_BYTES - 6));
        let long = format!("data: {}\n\n", "x".repeat(MAX_EVENT_BYTES));
        let lines = "data: xxxxxxxxxx\n".repeat(MAX_EVENT_BYTES / 10);
        for size in [1_000, 8 * 1024, usize::MAX] {
            let pieces = |body: &'static str| body.as_bytes().chunks(size);
            let fitting = events(pieces(fits.clone().leak())).expect("it fits");
            assert_eq!(fitting[0].len(), MAX_EVENT_BYTES - 6);
            assert_eq!(events(pieces(long.clone().leak())), Err(FrameError::TooLong));
            assert_eq!(events(pieces(lines.clone().leak())), Err(FrameError::TooLong));
            let comment = long.replace("data", "").leak();
            assert_eq!(events(pieces(comment)), Err(FrameError::TooLong));
        }
    }

    #[test]
    fn a_sink_that_breaks_sees_no_more() {
        let mut seen = 0;
        let mut sink = |_: &[u8]| {
            seen += 1;
            ControlFlow::Break(())
        };
        assert_eq!(Sse::default().push(b"data: a\n\ndata: b\n\n", &mut sink), Ok(true));
        assert_eq!(seen, 1);
    }

    #[test]
    fn what_is_no_text_is_said_to_be_none() {
        assert_eq!(events([&b"\xff\xfe\n\n"[..]]), Err(FrameError::NotText));
    }
}
