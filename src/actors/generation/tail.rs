//! The newest part of each live log, in memory, shared by every reader on this replica.
//!
//! A reader is a cursor, not a queue: it takes what is new when it can, and reads what is no longer here from the
//! store. The one writer of a log publishes here what the store has accepted, never before.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::domain::event::Frame;
use crate::domain::ids::ScenarioId;
use crate::storage::log::Extent;

/// Most bytes of frames that one tail holds.
const MAX_BYTES: usize = 256 * 1024;
/// What an idle tail keeps.
const MAX_IDLE_BYTES: usize = 1024;

/// All tails of this replica. A tail lives as long as anyone uses it.
#[derive(Default)]
pub struct Hub {
    tails: Mutex<HashMap<ScenarioId, Weak<Tail>>>,
}

pub struct Tail {
    scenario: ScenarioId,
    hub: Weak<Hub>,
    inner: Mutex<Inner>,
}

struct Inner {
    epoch: Option<Arc<str>>,
    head: u64,
    /// The last of them is the head.
    frames: VecDeque<Frame>,
    bytes: usize,
    /// `seq` of the open turn's `turn.started`; the outer `None` until a session has told.
    open_from: Option<Option<u64>>,
    readers: Vec<Arc<Wake>>,
}

/// Tells one task that some of the tails it reads have news; however many, however often: it is one wake-up.
#[derive(Default)]
pub struct Wake {
    news: AtomicBool,
    task: AtomicWaker,
}

impl Wake {
    pub fn notify(&self) {
        self.news.store(true, Ordering::Release);
        self.task.wake();
    }

    /// Ready once after any number of [`Wake::notify`].
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        self.task.register(context.waker());
        match self.news.swap(false, Ordering::AcqRel) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// What a reader finds after its cursor.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Frames were handed out; there may be more.
    Frames,
    /// Nothing new.
    Level,
    /// The next frame is no longer here: read it from the store.
    Older,
    /// The log was lost and began anew: the cursor means nothing.
    Lost,
}

impl Hub {
    /// The scenario's tail, made if nobody has it. It knows nothing until it is told by [`Tail::begin`].
    pub fn tail(self: &Arc<Self>, scenario: ScenarioId) -> Arc<Tail> {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tail) = tails.get(&scenario).and_then(Weak::upgrade) {
            return tail;
        }
        let tail = Arc::new(Tail {
            scenario,
            hub: Arc::downgrade(self),
            inner: Mutex::new(Inner {
                epoch: None,
                head: 0,
                frames: VecDeque::new(),
                bytes: 0,
                open_from: None,
                readers: Vec::new(),
            }),
        });
        tails.insert(scenario, Arc::downgrade(&tail));
        tail
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            let mut tails = hub.tails.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one may have taken the place already.
            if tails.get(&self.scenario).is_some_and(|tail| tail.strong_count() == 0) {
                tails.remove(&self.scenario);
                if tails.capacity() > 64 && tails.len() < tails.capacity() / 4 {
                    tails.shrink_to_fit();
                }
            }
        }
    }
}

impl Tail {
    /// Tells where the log stands. Ignored by a tail that knows as much or more of the same log.
    ///
    /// A reader that looks at the store may tell of events which the writer has stored and not published yet; which
    /// turn is open is then unknown until the writer says it again.
    pub fn begin(&self, extent: &Extent) {
        let mut inner = self.lock();
        let same = inner.epoch.as_deref() == Some(&*extent.epoch);
        if same && inner.head >= extent.head {
            return;
        }
        if !same {
            inner.epoch = Some(Arc::clone(&extent.epoch));
        }
        inner.open_from = None;
        inner.head = extent.head;
        inner.frames.clear();
        inner.bytes = 0;
        inner.wake();
    }

    /// Adds frames that the store has accepted, the first of them as `first_seq`; `open` says, if that changed, which
    /// turn is open after them, by the `seq` of its first event.
    pub fn publish(&self, first_seq: u64, frames: Vec<Frame>, open: Option<Option<u64>>) {
        let mut inner = self.lock();
        if let Some(open) = open {
            inner.open_from = Some(open);
        }
        let last = first_seq + frames.len() as u64 - 1;
        if frames.is_empty() || last <= inner.head {
            // A reader found them in the store before; that is where they are read from.
            return;
        }
        if first_seq != inner.head + 1 {
            inner.frames.clear();
            inner.bytes = 0;
        }
        inner.head = last;
        for frame in frames {
            inner.bytes += frame.bytes().len();
            inner.frames.push_back(frame);
        }
        inner.shrink(MAX_BYTES);
        inner.wake();
    }

    /// Says which turn is open, by the `seq` of its first event.
    pub fn set_open(&self, from: Option<u64>) {
        self.lock().open_from = Some(from);
    }

    /// Lets go of what readers will hardly want again.
    pub fn relax(&self) {
        let mut inner = self.lock();
        inner.shrink(MAX_IDLE_BYTES);
        inner.frames.shrink_to_fit();
    }

    /// Where the log stands, as far as this tail knows.
    pub fn position(&self) -> Option<Position> {
        let inner = self.lock();
        let epoch = inner.epoch.clone()?;
        Some(Position { epoch, head: inner.head, open_from: inner.open_from })
    }

    /// Hands out frames after `after`, up to about `max_bytes` and at least one if there is one.
    pub fn take(
        &self,
        epoch: &str,
        after: u64,
        max_bytes: usize,
        out: &mut Vec<(u64, Frame)>,
    ) -> Taken {
        let inner = self.lock();
        if inner.epoch.as_deref() != Some(epoch) || after > inner.head {
            return Taken::Lost;
        }
        if after == inner.head {
            return Taken::Level;
        }
        let before_first = inner.head - inner.frames.len() as u64;
        if after < before_first {
            return Taken::Older;
        }
        let skip = usize::try_from(after - before_first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for (seq, frame) in (after + 1..).zip(inner.frames.range(skip..)) {
            bytes += frame.bytes().len();
            if bytes > max_bytes && seq > after + 1 {
                break;
            }
            out.push((seq, frame.clone()));
        }
        Taken::Frames
    }

    /// Wakes `reader` whenever there is something new, until the subscription is dropped.
    pub fn subscribe(self: &Arc<Self>, reader: &Arc<Wake>) -> Subscription {
        self.lock().readers.push(Arc::clone(reader));
        Subscription { tail: Arc::clone(self), reader: Arc::clone(reader) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub epoch: Arc<str>,
    pub head: u64,
    /// `seq` of the open turn's first event; the outer `None` if nobody has told whether there is one.
    pub open_from: Option<Option<u64>>,
}

impl Inner {
    fn wake(&self) {
        self.readers.iter().for_each(|reader| reader.notify());
    }

    fn shrink(&mut self, max_bytes: usize) {
        while self.bytes > max_bytes
            && let Some(frame) = self.frames.pop_front()
        {
            self.bytes -= frame.bytes().len();
        }
    }
}

/// A reader's place in a tail.
pub struct Subscription {
    tail: Arc<Tail>,
    reader: Arc<Wake>,
}

impl Subscription {
    pub fn tail(&self) -> &Arc<Tail> {
        &self.tail
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut inner = self.tail.lock();
        if let Some(at) = inner.readers.iter().position(|other| Arc::ptr_eq(other, &self.reader)) {
            inner.readers.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::ids::TurnId;
    use uuid::Uuid;

    fn frames(scenario: ScenarioId, seqs: std::ops::RangeInclusive<u64>, text: &str) -> Vec<Frame> {
        let turn = TurnId(Uuid::nil());
        let event = Event::TextDelta { turn, off: 0, text: text.into() };
        seqs.map(|seq| Frame::encode(scenario, "e", seq, &event)).collect()
    }

    fn setup(head: u64) -> (Arc<Hub>, Arc<Tail>, ScenarioId) {
        let hub = Arc::new(Hub::default());
        let scenario = ScenarioId(Uuid::nil());
        let tail = hub.tail(scenario);
        tail.begin(&Extent { epoch: "e".into(), first: 1, head });
        (hub, tail, scenario)
    }

    fn seqs(tail: &Tail, after: u64, max_bytes: usize) -> (Taken, Vec<u64>) {
        let mut out = Vec::new();
        let taken = tail.take("e", after, max_bytes, &mut out);
        (taken, out.into_iter().map(|(seq, _)| seq).collect())
    }

    #[test]
    fn readers_get_exactly_what_follows_their_cursor() {
        let (_hub, tail, scenario) = setup(4);
        tail.publish(5, frames(scenario, 5..=9, "x"), None);
        assert_eq!(seqs(&tail, 9, 9999), (Taken::Level, vec![]));
        assert_eq!(seqs(&tail, 6, 9999), (Taken::Frames, vec![7, 8, 9]));
        assert_eq!(seqs(&tail, 4, 9999), (Taken::Frames, vec![5, 6, 7, 8, 9]));
        assert_eq!(seqs(&tail, 4, 1), (Taken::Frames, vec![5]), "at least one");
        assert_eq!(seqs(&tail, 3, 9999), (Taken::Older, vec![]));
        assert_eq!(seqs(&tail, 10, 9999), (Taken::Lost, vec![]), "a cursor ahead of the log");
        assert_eq!(tail.take("other", 9, 9999, &mut Vec::new()), Taken::Lost);
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let (hub, tail, scenario) = setup(0);
        tail.publish(1, frames(scenario, 1..=400, &"x".repeat(4_000)), None);
        assert!(tail.lock().bytes <= MAX_BYTES);
        assert_eq!(tail.position().unwrap().head, 400);
        assert_eq!(seqs(&tail, 0, 9999).0, Taken::Older);
        tail.relax();
        assert!(tail.lock().bytes <= MAX_IDLE_BYTES);
        drop(tail);
        assert!(hub.tails.lock().unwrap().is_empty());
    }

    #[test]
    fn a_late_begin_never_takes_a_tail_back() {
        let (_hub, tail, scenario) = setup(0);
        tail.publish(1, frames(scenario, 1..=3, "x"), None);
        tail.begin(&Extent { epoch: "e".into(), first: 1, head: 1 });
        assert_eq!(seqs(&tail, 1, 9999), (Taken::Frames, vec![2, 3]));
        tail.begin(&Extent { epoch: "e2".into(), first: 2, head: 1 });
        assert_eq!(seqs(&tail, 3, 9999).0, Taken::Lost);
    }

    #[test]
    fn what_a_reader_found_in_the_store_first_keeps_its_number() {
        let (_hub, tail, scenario) = setup(2);
        tail.publish(3, frames(scenario, 3..=4, "x"), Some(Some(3)));
        // Stored as 5 and 6, seen there by a reader that attaches, and only then published.
        tail.begin(&Extent { epoch: "e".into(), first: 1, head: 6 });
        assert_eq!(tail.position().unwrap().open_from, None, "6 may have ended the turn");
        tail.publish(5, frames(scenario, 5..=6, "x"), None);
        assert_eq!(seqs(&tail, 6, 9999), (Taken::Level, vec![]));
        assert_eq!(seqs(&tail, 4, 9999), (Taken::Older, vec![]));
        tail.publish(7, frames(scenario, 7..=7, "x"), Some(None));
        assert_eq!(seqs(&tail, 6, 9999), (Taken::Frames, vec![7]));
        let position = tail.position().unwrap();
        assert_eq!((position.head, position.open_from), (7, Some(None)));
    }
}
