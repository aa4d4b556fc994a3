//! The incremental reader of the turn format, the hot path of every stream: text that cannot belong to a marker goes
//! through as a borrow of the chunk it came in.

use super::choice;
use super::{
    CHOICES_MARKER, MAX_CHOICES, MAX_CHOICES_BYTES, MAX_PATCH_BYTES, MAX_PROSE_CHARS,
    OBJECT_CHOICES, OBJECT_STATE, PatchVerdict, Piece, ProseVerdict, STATE_MARKER, Sink, Verdict,
};
use crate::domain::patch::Object;

/// White space held back before a possible marker. A run that is longer (its characters have at most three bytes) breaks
/// [`MAX_PROSE_CHARS`] in any case, so dropping the rest of it changes nothing.
const MAX_HELD_SPACE_BYTES: usize = 3 * MAX_PROSE_CHARS + 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Prose,
    Choices,
    State,
    /// The rest of the stream is of no interest.
    Over,
}

/// Reads one provider call's stream, chunk by chunk, however it is cut.
#[derive(Debug)]
pub struct TurnParser {
    phase: Phase,
    /// White space that is shown only if prose follows.
    space: String,
    /// Start of a marker, as it was written: a proper prefix of one, but for letter case.
    mark: String,
    prose_chars: usize,
    prose_too_long: bool,
    choices_marker: bool,
    choices_done: bool,
    /// Bytes of the choice block so far.
    choices_bytes: usize,
    /// The unfinished line of the choice block, then the text of the patch.
    buffer: String,
    patch_too_long: bool,
    /// Keys of the choices known.
    known: Vec<choice::Key>,
    choices_only: bool,
    /// The rest came as one object.
    is_object: bool,
}

impl TurnParser {
    /// For a scene of which nothing is shown yet.
    pub fn new() -> Self {
        Self::resumed(0)
    }

    /// For a stream that goes on after `shown_chars` characters of prose. If there are any, white space at the stream's
    /// start belongs to the prose.
    pub fn resumed(shown_chars: usize) -> Self {
        Self {
            phase: Phase::Prose,
            space: String::new(),
            mark: String::new(),
            prose_chars: shown_chars,
            prose_too_long: false,
            choices_marker: false,
            choices_done: false,
            choices_bytes: 0,
            buffer: String::new(),
            patch_too_long: false,
            known: Vec::new(),
            choices_only: false,
            is_object: false,
        }
    }

    /// For a stream that was asked for choices and patch only. Text before the choices is dropped, and so are choices that
    /// repeat one of `known`, the labels that readers already see; those count towards [`MAX_CHOICES`].
    pub fn choices_only<'a>(known: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            phase: Phase::Choices,
            known: known.into_iter().map(choice::Key::of).collect(),
            choices_only: true,
            ..Self::resumed(1)
        }
    }

    /// Whether nothing more will be read: the stream may be dropped.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Takes the next chunk and passes on what is certain by now.
    pub fn push(&mut self, chunk: &str, out: &mut impl Sink) {
        let mut rest = chunk;
        while !rest.is_empty() {
            rest = match self.phase {
                Phase::Prose => self.prose(rest, out),
                Phase::Choices => self.choices(rest, out),
                Phase::State => self.state(rest),
                Phase::Over => "",
            };
        }
    }

    /// The stream has ended well: passes on what was held back and tells what was missing.
    ///
    /// Not for a stream that broke off: what it held back is not certain, and its continuation will write it again.
    pub fn finish(mut self, out: &mut impl Sink) -> Verdict {
        if self.phase == Phase::Prose {
            // Three of them start no prose: that is a marker cut off.
            if self.mark.len() < 3 {
                let mark = std::mem::take(&mut self.mark);
                self.solid(&mark, out);
            }
            if self.phase == Phase::Prose {
                out.piece(Piece::ProseDone);
            }
        }
        if self.phase == Phase::Choices {
            let line = std::mem::take(&mut self.buffer);
            self.choice_line(&line, out);
        }
        let mut patch = self.patch();
        if let (true, Ok(Some(object))) = (self.is_object, &mut patch) {
            let rest = self.take_choices(object, out);
            patch = Ok(rest);
        }
        if !self.choices_done {
            out.piece(Piece::ChoicesDone);
        }
        let verdict = Verdict {
            prose: match self.prose_chars {
                _ if self.prose_too_long => ProseVerdict::TooLong,
                0 => ProseVerdict::Empty,
                _ => ProseVerdict::Whole,
            },
            choices_marker: self.choices_marker,
            choices: self.known.len(),
            patch: match &patch {
                Ok(Some(_)) => PatchVerdict::Valid,
                Ok(None) => PatchVerdict::Missing,
                Err(()) => PatchVerdict::Invalid,
            },
        };
        if let Ok(Some(patch)) = patch {
            out.piece(Piece::Patch(patch));
        }
        verdict
    }

    /// Reads prose up to the end of `chunk` or of a marker; what is behind a marker is returned.
    fn prose<'a>(&mut self, chunk: &'a str, out: &mut impl Sink) -> &'a str {
        let mut rest = chunk;
        while let Some(next) = rest.chars().next() {
            if !self.mark.is_empty() {
                if is_dropped(next) {
                    rest = &rest[next.len_utf8()..];
                } else if continues_marker(&self.mark, next) {
                    self.mark.push(next);
                    rest = &rest[next.len_utf8()..];
                    if self.mark.eq_ignore_ascii_case(CHOICES_MARKER) {
                        self.choices_marker = true;
                        self.end_prose(Phase::Choices, out);
                        return rest;
                    }
                    if self.mark.eq_ignore_ascii_case(STATE_MARKER) {
                        self.end_prose(Phase::State, out);
                        self.end_choices(out);
                        return rest;
                    }
                } else {
                    // No marker after all. Only its first byte is certain: `<<<` may go on as `<<<<CHOICES>>>`.
                    let mark = std::mem::take(&mut self.mark);
                    self.solid(&mark[..1], out);
                    if self.phase == Phase::Prose {
                        self.prose(&mark[1..], out);
                    }
                }
            } else {
                let (run, tail) = rest.split_at(plain_len(rest));
                if !run.is_empty() {
                    self.solid(run, out);
                }
                rest = tail;
                if let Some(stop) = tail.chars().next() {
                    if stop == '<' {
                        self.mark.push(stop);
                    }
                    rest = &tail[stop.len_utf8()..];
                }
            }
            if self.phase != Phase::Prose {
                return "";
            }
        }
        rest
    }

    /// Shows prose without markers and control characters, but for the white space at its end, which waits.
    fn solid(&mut self, text: &str, out: &mut impl Sink) {
        let text = if self.prose_chars == 0 { text.trim_start() } else { text };
        let shown = text.trim_end();
        if !shown.is_empty() {
            if self.space.is_empty() {
                self.show(shown, out);
            } else {
                let mut joined = std::mem::take(&mut self.space);
                joined.push_str(shown);
                self.show(&joined, out);
                joined.clear();
                self.space = joined;
            }
        }
        for space in text[shown.len()..].chars() {
            if self.space.len() + space.len_utf8() <= MAX_HELD_SPACE_BYTES {
                self.space.push(space);
            }
        }
    }

    fn show(&mut self, text: &str, out: &mut impl Sink) {
        let room = MAX_PROSE_CHARS.saturating_sub(self.prose_chars);
        let chars = text.chars().count();
        if chars <= room {
            self.prose_chars += chars;
            out.piece(Piece::Text(text));
            return;
        }
        let end = text.char_indices().nth(room).map_or(text.len(), |(at, _)| at);
        let kept = text[..end].trim_end();
        if !kept.is_empty() {
            out.piece(Piece::Text(kept));
        }
        self.prose_chars = MAX_PROSE_CHARS;
        self.prose_too_long = true;
        self.end_prose(Phase::Over, out);
    }

    fn end_prose(&mut self, next: Phase, out: &mut impl Sink) {
        self.space.clear();
        self.mark.clear();
        self.phase = next;
        out.piece(Piece::ProseDone);
    }

    fn end_choices(&mut self, out: &mut impl Sink) {
        self.choices_done = true;
        out.piece(Piece::ChoicesDone);
    }

    /// Reads to the end of a line, of the state marker or of `chunk`; returns the rest.
    fn choices<'a>(&mut self, chunk: &'a str, out: &mut impl Sink) -> &'a str {
        let line_end = chunk.find('\n').map_or(chunk.len(), |at| at + 1);
        let room = MAX_CHOICES_BYTES - self.choices_bytes;
        let (part, rest) = chunk.split_at(chunk.floor_char_boundary(line_end.min(room)));
        if part.is_empty() {
            self.phase = Phase::Over;
            self.buffer.clear();
            return "";
        }
        self.choices_bytes += part.len();
        let searched = self.buffer.len().saturating_sub(STATE_MARKER.len() - 1);
        self.buffer.push_str(part);
        if let Some(at) = find_ignore_case(&self.buffer, STATE_MARKER, searched) {
            let mut line = std::mem::take(&mut self.buffer);
            self.buffer = line.split_off(at + STATE_MARKER.len());
            line.truncate(at);
            self.choice_line(&line, out);
            self.phase = Phase::State;
            self.end_choices(out);
        } else if self.buffer.ends_with('\n') {
            let line = std::mem::take(&mut self.buffer);
            self.choice_line(&line, out);
        }
        rest
    }

    fn choice_line(&mut self, line: &str, out: &mut impl Sink) {
        if line.trim_start().starts_with('{') {
            // The patch, its marker forgotten; or all that was asked for, as one object.
            self.is_object = self.choices_only && !self.choices_marker;
            self.buffer.push_str(line);
            self.phase = Phase::State;
            if !self.is_object {
                self.end_choices(out);
            }
        } else if find_ignore_case(line, CHOICES_MARKER, 0).is_some() {
            self.choices_marker = true;
        } else if let Some((label, hint)) = choice::parse(line) {
            self.choice(label, hint, out);
        }
    }

    fn choice(&mut self, label: String, hint: Option<String>, out: &mut impl Sink) {
        let key = choice::Key::of(&label);
        if self.known.len() < MAX_CHOICES && !self.known.iter().any(|known| known.is_like(&key)) {
            self.known.push(key);
            out.piece(Piece::Choice { label, hint });
        }
    }

    /// Takes the choices out of an object that was asked for instead of lines; gives the patch in it.
    fn take_choices(&mut self, object: &mut Object, out: &mut impl Sink) -> Option<Object> {
        let choices = match object.remove(OBJECT_CHOICES) {
            Some(serde_json::Value::Array(choices)) => choices,
            // A bare patch after all.
            _ => return Some(std::mem::take(object)),
        };
        for choice in choices {
            let text = |name: &str| choice.get(name).and_then(|text| text.as_str());
            let line = format!(
                "- {} | {}",
                text("label").unwrap_or_default(),
                text("hint").unwrap_or_default()
            );
            if let Some((label, hint)) = choice::parse(&line) {
                self.choice(label, hint, out);
            }
        }
        match object.remove(OBJECT_STATE) {
            Some(serde_json::Value::Object(patch)) => Some(patch),
            _ => None,
        }
    }

    fn state<'a>(&mut self, chunk: &'a str) -> &'a str {
        if self.buffer.len() + chunk.len() <= MAX_PATCH_BYTES {
            self.buffer.push_str(chunk);
        } else {
            self.patch_too_long = true;
            self.buffer.clear();
            self.phase = Phase::Over;
        }
        ""
    }

    /// The patch, if one came; whatever is around it (code fences, remarks) is ignored.
    fn patch(&self) -> Result<Option<Object>, ()> {
        if self.patch_too_long {
            return Err(());
        }
        if self.phase != Phase::State || self.buffer.trim().is_empty() {
            return Ok(None);
        }
        let json = self.buffer.find('{').map(|at| &self.buffer[at..]).ok_or(())?;
        match serde_json::Deserializer::from_str(json).into_iter::<Object>().next() {
            Some(Ok(patch)) => Ok(Some(patch)),
            _ => Err(()),
        }
    }
}

impl Default for TurnParser {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes at the start of `text` that are neither `<` nor a control character to be dropped.
fn plain_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let stops = |(at, byte): (usize, &u8)| match byte {
        b'<' | 0x7f => true,
        b'\n' | b'\t' => false,
        0xc2 => bytes.get(at + 1).is_some_and(|second| *second < 0xa0), // U+0080 to U+009F
        byte => *byte < 0x20,
    };
    bytes.iter().enumerate().position(stops).unwrap_or(bytes.len())
}

fn is_dropped(c: char) -> bool {
    c.is_control() && c != '\n' && c != '\t'
}

fn continues_marker(mark: &str, next: char) -> bool {
    [CHOICES_MARKER, STATE_MARKER].iter().any(|marker| {
        marker.len() > mark.len()
            && marker.as_bytes()[..mark.len()].eq_ignore_ascii_case(mark.as_bytes())
            && next.eq_ignore_ascii_case(&char::from(marker.as_bytes()[mark.len()]))
    })
}

/// `needle` is ASCII, so a match lies on character boundaries.
fn find_ignore_case(text: &str, needle: &str, from: usize) -> Option<usize> {
    let found = text.as_bytes()[from.min(text.len())..]
        .windows(needle.len())
        .position(|window| window.eq_ignore_ascii_case(needle.as_bytes()));
    found.map(|at| at + from)
}
