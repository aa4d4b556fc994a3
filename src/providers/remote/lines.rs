//! Lines of JSON out of the pieces in which a body arrives: what Ollama streams.
//!
//! A line that lies within one piece, as nearly all do, is handed over in place; only what a piece's end cuts is copied.

use std::ops::ControlFlow;

use memchr::memchr;

use super::wire::{FrameError, Framing, MAX_EVENT_BYTES};

#[derive(Debug, Default)]
pub(in crate::providers) struct Lines {
    /// The start of a line whose end has not come.
    line: Vec<u8>,
}

impl Framing for Lines {
    fn push(
        &mut self,
        piece: &[u8],
        sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<bool, FrameError> {
        let mut rest = piece;
        let mut any_line = false;
        while let Some(at) = memchr(b'\n', rest) {
            any_line = true;
            let (line, end) = rest.split_at(at);
            rest = &end[1..];
            self.check(line.len())?;
            let flow = if self.line.is_empty() {
                hand_over(line, sink)
            } else {
                self.line.extend_from_slice(line);
                let flow = hand_over(&self.line, sink);
                self.line.clear();
                flow
            };
            if flow.is_break() {
                return Ok(true);
            }
        }
        self.check(rest.len())?;
        self.line.extend_from_slice(rest);
        Ok(any_line)
    }

    fn finish(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), FrameError> {
        self.push(b"\n", sink).map(drop)
    }
}

impl Lines {
    fn check(&self, more: usize) -> Result<(), FrameError> {
        if self.line.len() + more > MAX_EVENT_BYTES {
            return Err(FrameError::TooLong);
        }
        Ok(())
    }
}

fn hand_over(line: &[u8], sink: &mut impl FnMut(&[u8]) -> ControlFlow<()>) -> ControlFlow<()> {
    let line = line.trim_ascii();
    if line.is_empty() { ControlFlow::Continue(()) } else { sink(line) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<String>, FrameError> {
        let mut framing = Lines::default();
        let mut lines = Vec::new();
        let mut sink = |data: &[u8]| {
            lines.push(String::from_utf8_lossy(data).into_owned());
            ControlFlow::Continue(())
        };
        for piece in pieces {
            framing.push(piece, &mut sink)?;
        }
        framing.finish(&mut sink)?;
        Ok(lines)
    }

    #[test]
    fn lines_are_found_and_empty_ones_left_out() {
        for (body, want) in [
            ("a\nb\n", vec!["a", "b"]),
            ("a\r\n\r\n b \n", vec!["a", "b"]),
            ("a\nb", vec!["a", "b"]),
            ("\n\n", vec![]),
            ("", vec![]),
        ] {
            let want: Vec<String> = want.into_iter().map(String::from).collect();
            assert_eq!(lines([body.as_bytes()]), Ok(want), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn where_a_body_is_cut_does_not_matter(body in "([aé]{0,3}(\n|\r\n)){0,5}[aé]{0,2}", size in 1_usize..5) {
            prop_assert_eq!(lines(body.as_bytes().chunks(size)), lines([body.as_bytes()]));
        }
    }

    #[test]
    fn a_line_is_bounded_however_it_comes() {
        let long = vec![b'x'; MAX_EVENT_BYTES + 1];
        for size in [1_000, usize::MAX] {
            assert_eq!(lines(long.chunks(size)), Err(FrameError::TooLong));
        }
        assert!(lines([&long[1..]]).is_ok());
    }

    #[test]
    fn a_sink_that_breaks_sees_no_more() {
        let mut seen = 0;
        let mut sink = |_: &[u8]| {
            seen += 1;
            ControlFlow::Break(())
        };
        assert_eq!(Lines::default().push(b"a\nb\n", &mut sink), Ok(true));
        assert_eq!(seen, 1);
    }
}
