//! The newest part of each live log, in memory, shared by every reader on this replica.
//!
//! A reader is a cursor, not a queue: it takes what is new when it can, and reads what is no longer here from the
//! store. What is published here the store has accepted before: by the pen of this replica ([`Pen`]), or, while
//! another replica has it and readers wait here, by the tail's one follower (`follow.rs`).

mod followed;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::task::AbortHandle;

use super::follow::Following;
use crate::domain::event::Frame;
use crate::domain::ids::ScenarioId;
use crate::storage::log::Extent;

pub use followed::Adopted;

/// Most bytes of frames that one tail holds.
const MAX_BYTES: usize = 256 * 1024;
/// What an idle tail keeps.
const MAX_IDLE_BYTES: usize = 1024;

/// All tails of this replica. A tail lives as long as anyone uses it.
#[derive(Default)]
pub struct Hub {
    tails: Mutex<HashMap<ScenarioId, Weak<Tail>>>,
    /// Starts followers; none where nobody else writes.
    following: Option<Following>,
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
    /// Pens of this log on this replica: one, and for a moment those that are worthless already.
    pens: u32,
    /// Reads for the readers what another replica writes.
    follower: Option<AbortHandle>,
    /// The number of the newest follower: what an older one still brings is not taken.
    followers: u64,
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
    pub fn new(following: Following) -> Self {
        Self { tails: Mutex::default(), following: Some(following) }
    }

    /// The scenario's tail, made if nobody has it. It knows nothing until it is told where the log stands.
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
                pens: 0,
                follower: None,
                followers: 0,
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
    pub fn scenario(&self) -> ScenarioId {
        self.scenario
    }

    /// Tells that the log is written here from now on, and where it stands.
    pub fn take_pen(self: &Arc<Self>, extent: &Extent) -> Pen {
        let mut inner = self.lock();
        inner.pens += 1;
        inner.begin(extent);
        self.tend(&mut inner);
        drop(inner);
        Pen { tail: Arc::clone(self), epoch: Arc::clone(&extent.epoch) }
    }

    /// Tells what a reader found in the store; `before` is the epoch that this tail had when it looked. `false`: what
    /// it found is no longer (or not yet) so, it has to look again.
    pub fn learn(&self, before: Option<&str>, extent: &Extent) -> bool {
        let mut inner = self.lock();
        let known = inner.epoch.as_deref();
        let same = known == Some(&*extent.epoch);
        // Epochs have no order, but whoever looked after the tail's one was known found that one or its successor. A
        // pen here learns by itself that its log is no more.
        if !same && (known != before || (known.is_some() && inner.pens > 0)) {
            return false;
        }
        inner.begin(extent);
        true
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
        let mut inner = self.lock();
        inner.readers.push(Arc::clone(reader));
        self.tend(&mut inner);
        drop(inner);
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

/// The right to publish in a tail what one claim of the log allowed to write. While there is one nobody follows.
pub struct Pen {
    tail: Arc<Tail>,
    epoch: Arc<str>,
}

impl Pen {
    pub fn tail(&self) -> &Arc<Tail> {
        &self.tail
    }

    /// Adds frames that the store has accepted, the first of them as `first_seq`; `open` says, if that changed, which
    /// turn is open after them, by the `seq` of its first event.
    pub fn publish(&self, first_seq: u64, frames: Vec<Frame>, open: Option<Option<u64>>) {
        let mut inner = self.tail.lock();
        // The log was lost and begun anew meanwhile, with another pen.
        if inner.epoch.as_deref() != Some(&*self.epoch) {
            return;
        }
        if let Some(open) = open {
            inner.open_from = Some(open);
        }
        inner.add(first_seq, frames);
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        let mut inner = self.tail.lock();
        inner.pens -= 1;
        self.tail.tend(&mut inner);
    }
}

impl Inner {
    /// Takes over where the log stands. Ignored by a tail that knows as much or more of the same log.
    ///
    /// Who looks at the store may tell of events which the writer has stored and not published yet; which turn is
    /// open is then unknown until the writer says it again.
    fn begin(&mut self, extent: &Extent) {
        let same = self.epoch.as_deref() == Some(&*extent.epoch);
        if same && self.head >= extent.head {
            return;
        }
        if !same {
            self.epoch = Some(Arc::clone(&extent.epoch));
        }
        self.open_from = None;
        self.head = extent.head;
        self.frames.clear();
        self.bytes = 0;
        self.wake();
    }

    fn add(&mut self, first_seq: u64, frames: Vec<Frame>) {
        let last = first_seq + frames.len() as u64 - 1;
        if frames.is_empty() || last <= self.head {
            // A reader found them in the store before; that is where they are read from.
            return;
        }
        if first_seq != self.head + 1 {
            self.frames.clear();
            self.bytes = 0;
        }
        self.head = last;
        for frame in frames {
            self.bytes += frame.bytes().len();
            self.frames.push_back(frame);
        }
        self.shrink(MAX_BYTES);
        self.wake();
    }

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
        self.tail.tend(&mut inner);
    }
}
