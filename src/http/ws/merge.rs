//! Fewer and fuller frames for a reader that is behind: adjacent deltas of a turn become one.

use crate::domain::event::{Event, Frame};

/// Longest text of a merged delta, in bytes: well under the largest frame a client has to take.
const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Merges runs of adjacent `text.delta` frames; each merged one carries `seq_from`.
pub fn merge(frames: Vec<(u64, Frame)>) -> Vec<Frame> {
    let mut merged = Vec::with_capacity(frames.len().min(16));
    let mut run: Option<Run> = None;
    for (seq, frame) in frames {
        let delta = match frame.kind() {
            "text.delta" => frame.decode().ok(),
            _ => None,
        };
        let Some(addressed) = delta else {
            merged.extend(run.take().map(Run::finish));
            merged.push(frame);
            continue;
        };
        if let Some(run) = &mut run
            && run.add(&addressed.event, seq)
        {
            continue;
        }
        merged.extend(run.take().map(Run::finish));
        let (scenario, epoch) = (addressed.scenario, addressed.epoch);
        run = Some(Run { scenario, epoch, from: seq, to: seq, event: addressed.event, frame });
    }
    merged.extend(run.map(Run::finish));
    merged
}

struct Run {
    scenario: crate::domain::ids::ScenarioId,
    epoch: String,
    from: u64,
    to: u64,
    event: Event,
    /// The first one as it was, in case it stays alone.
    frame: Frame,
}

impl Run {
    fn add(&mut self, next: &Event, seq: u64) -> bool {
        match (&mut self.event, next) {
            (
                Event::TextDelta { turn, text, .. },
                Event::TextDelta { turn: same, text: more, .. },
            ) if turn == same
                && seq == self.to + 1
                && text.len() + more.len() <= MAX_TEXT_BYTES =>
            {
                text.push_str(more);
                self.to = seq;
                true
            }
            _ => false,
        }
    }

    fn finish(self) -> Frame {
        if self.from == self.to {
            return self.frame;
        }
        Frame::encode_merged(self.scenario, &self.epoch, self.to, Some(self.from), &self.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ScenarioId, TurnId};
    use proptest::prelude::*;
    use uuid::Uuid;

    fn log(parts: &[Option<String>]) -> Vec<(u64, Frame)> {
        let (scenario, turn) = (ScenarioId(Uuid::nil()), TurnId(Uuid::nil()));
        let mut off = 0;
        (1..)
            .zip(parts)
            .map(|(seq, part)| {
                let event = match part {
                    Some(text) => Event::TextDelta { turn, off, text: text.clone() },
                    None => Event::ChoicesDone { turn },
                };
                off += part.as_deref().map_or(0, crate::domain::scenario::utf16_len);
                (seq, Frame::encode(scenario, "e", seq, &event))
            })
            .collect()
    }

    /// Text, and the events that are none, as a client that follows the apply rule sees them.
    fn read(frames: impl IntoIterator<Item = Frame>) -> (String, usize, u64) {
        let (mut text, mut others, mut last) = (String::new(), 0, 0);
        for frame in frames {
            let addressed = frame.decode().unwrap();
            assert_eq!(addressed.seq_from.unwrap_or(addressed.seq), last + 1, "a hole");
            last = addressed.seq;
            match addressed.event {
                Event::TextDelta { off, text: more, .. } => {
                    assert_eq!(off, crate::domain::scenario::utf16_len(&text));
                    text.push_str(&more);
                }
                _ => others += 1,
            }
        }
        (text, others, last)
    }

    proptest! {
        #[test]
        fn merging_changes_nothing_for_the_reader(
            parts in prop::collection::vec(prop::option::weighted(0.8, "[a-c𝄞é]{1,9}"), 0..40)
        ) {
            let frames = log(&parts);
            let plain = read(frames.iter().map(|(_, frame)| frame.clone()));
            let merged = merge(frames);
            let runs = parts.chunk_by(|a, b| a.is_some() && b.is_some()).count();
            prop_assert_eq!(merged.len(), runs);
            prop_assert_eq!(read(merged), plain);
        }
    }
}
