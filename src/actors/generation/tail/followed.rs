//! A tail's side of being followed: when a follower is needed, and what is taken of what it brings.

use std::sync::{Arc, PoisonError};

use super::{Inner, Tail};
use crate::domain::event::Frame;
use crate::storage::log::LogPage;

/// Where a tail stood when its follower looked into the store.
pub struct Seen {
    pub epoch: Option<Arc<str>>,
    pub head: u64,
    /// The event at the head, if it is in memory: the store should have the same one.
    pub last: Option<Frame>,
}

/// What a tail makes of what its follower found.
pub enum Adopted {
    /// There may be more already.
    More,
    Level,
    /// The store has less than the tail has seen: it was rolled back.
    RolledBack,
    /// The follower is not needed any more.
    Over,
}

/// Which turn is open after these events, if they tell.
fn last_boundary(frames: &[(u64, Frame)]) -> Option<Option<u64>> {
    frames.iter().rev().find_map(|(seq, frame)| match frame.kind() {
        "turn.started" => Some(Some(*seq)),
        "turn.done" | "turn.failed" => Some(None),
        _ => None,
    })
}

impl Tail {
    #[cfg(test)]
    pub fn is_followed(&self) -> bool {
        self.lock().follower.as_ref().is_some_and(|follower| !follower.is_finished())
    }

    /// Where follower `id` has to read on; `None` if it is not needed any more.
    pub fn followed(&self, id: u64) -> Option<Seen> {
        let inner = self.lock();
        let current = inner.follower.is_some() && inner.followers == id;
        current.then(|| Seen {
            epoch: inner.epoch.clone(),
            head: inner.head,
            last: inner.frames.back().cloned(),
        })
    }

    /// Takes what follower `id` found after `seen`, with the event there or without it.
    pub fn adopt(&self, id: u64, seen: &Seen, page: LogPage) -> Adopted {
        let mut inner = self.lock();
        if inner.follower.is_none() || inner.followers != id {
            return Adopted::Over;
        }
        let LogPage { extent, mut frames } = page;
        if inner.epoch != seen.epoch {
            return Adopted::More;
        }
        if inner.epoch.as_deref() != Some(&*extent.epoch) {
            inner.begin(&extent);
            return Adopted::Level;
        }
        if extent.head < seen.head {
            return Adopted::RolledBack;
        }
        if let Some((_, frame)) = frames.first().filter(|(seq, _)| *seq == seen.head) {
            // It may have lost events, and got others under their numbers.
            if seen.last.as_ref().is_some_and(|last| last != frame) {
                return Adopted::RolledBack;
            }
            frames.remove(0);
        }
        let Some(((first, _), (last, _))) = frames.first().zip(frames.last()) else {
            inner.begin(&extent);
            return Adopted::Level;
        };
        let (first, last) = (*first, *last);
        if last >= inner.head
            && let Some(open) = last_boundary(&frames)
        {
            inner.open_from = Some(open);
        }
        inner.add(first, frames.into_iter().map(|(_, frame)| frame).collect());
        match inner.head < extent.head {
            true => Adopted::More,
            false => Adopted::Level,
        }
    }

    /// Gives this tail up: what it has shown is not what the log holds. All its readers find that their cursor means
    /// nothing, and come to another tail.
    pub fn retire(&self, id: u64) {
        let mut inner = self.lock();
        if inner.follower.is_none() || inner.followers != id {
            return;
        }
        if let Some(hub) = self.hub.upgrade() {
            let mut tails = hub.tails.lock().unwrap_or_else(PoisonError::into_inner);
            if tails.get(&self.scenario).is_some_and(|tail| std::ptr::eq(tail.as_ptr(), self)) {
                tails.remove(&self.scenario);
            }
        }
        inner.epoch = None;
        inner.frames.clear();
        inner.bytes = 0;
        inner.wake();
    }

    /// Starts a follower when one is needed, and ends it when it is not.
    pub(super) fn tend(self: &Arc<Self>, inner: &mut Inner) {
        let needed = inner.pens == 0 && !inner.readers.is_empty();
        let running = inner.follower.as_ref().is_some_and(|follower| !follower.is_finished());
        if needed && !running {
            let Some(hub) = self.hub.upgrade() else { return };
            inner.followers += 1;
            let following = hub.following.as_ref();
            // A tail that knows nothing yet is about to be told, by the reader that made it.
            let behind = inner.epoch.is_some();
            inner.follower =
                following.and_then(|following| following.start(self, inner.followers, behind));
        } else if !needed && let Some(follower) = inner.follower.take() {
            follower.abort();
        }
    }
}
