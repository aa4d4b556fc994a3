//! How far a replica of the database must be for a read to be served there: pure bookkeeping, no I/O.
//!
//! Positions are places in the primary's write-ahead log. A *horizon* is where the primary was when it was last asked:
//! whatever anybody had committed by then lies before it. A *mark* is where it was after a user was written here. A
//! replica that has replayed past both shows everything that this process wrote, and everything that others wrote
//! before the horizon. A mark lives until a horizon lies beyond it, so there are no more of them than users written
//! within the staleness allowed.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::ids::UserId;

/// A place in the write-ahead log, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(pub i64);

/// Marks kept for single users; beyond that one mark stands for everybody.
const MAX_MARKS: usize = 10_000;
/// How long a write whose outcome is unknown may still take effect: the server may work on it when we have long given
/// up.
const UNSETTLED: Duration = Duration::from_secs(60);

/// What a read needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A replica that has replayed this far.
    Replayed(Position),
    /// A newer horizon first.
    Horizon,
    /// The primary.
    Primary,
}

#[derive(Debug, Clone, Copy)]
enum Mark {
    At(Position),
    /// Perhaps written, nobody knows where.
    Unsettled {
        until: Instant,
    },
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    horizon: Option<Horizon>,
    marks: HashMap<UserId, Mark>,
    /// For everybody.
    mark: Option<Mark>,
}

#[derive(Debug, Clone, Copy)]
struct Horizon {
    position: Position,
    /// Before the primary was asked.
    asked_at: Instant,
}

impl Ledger {
    /// A user was written, and then the primary was at `position`; `None` if that is not known.
    pub fn wrote(&mut self, user: UserId, position: Option<Position>, now: Instant) {
        let new = match position {
            Some(position) => Mark::At(position),
            None => Mark::Unsettled { until: now + UNSETTLED },
        };
        if self.marks.len() < MAX_MARKS || self.marks.contains_key(&user) {
            let mark = self.marks.entry(user).or_insert(new);
            *mark = mark.and(new, now);
        } else {
            // The newest of all that are given up, this one included, for everybody.
            let all = self.marks.drain().map(|(_, mark)| mark).chain(self.mark);
            self.mark = Some(all.fold(new, |one, two| one.and(two, now)));
        }
    }

    /// The primary was asked at `asked_at` and was at `position`. What lies before it needs no mark.
    pub fn saw(&mut self, position: Position, asked_at: Instant) {
        if self.horizon.is_none_or(|held| held.asked_at <= asked_at) {
            self.horizon = Some(Horizon { position, asked_at });
        }
        let needed = |mark: &Mark| match mark {
            Mark::At(at) => *at > position,
            Mark::Unsettled { until } => *until > asked_at,
        };
        self.marks.retain(|_, mark| needed(mark));
        self.mark = self.mark.filter(needed);
    }

    /// What a read of `user` that begins at `now` needs, if it may miss what others wrote within `staleness`.
    pub fn need(&self, user: UserId, now: Instant, staleness: Duration) -> Need {
        let Some(horizon) = self.horizon.filter(|held| held.asked_at + staleness >= now) else {
            return Need::Horizon;
        };
        let mut position = horizon.position;
        for mark in self.marks.get(&user).into_iter().chain(&self.mark) {
            match *mark {
                Mark::At(at) => position = position.max(at),
                Mark::Unsettled { until } if until > now => return Need::Primary,
                Mark::Unsettled { .. } => {}
            }
        }
        Need::Replayed(position)
    }
}

impl Mark {
    /// Both have to be met.
    fn and(self, other: Mark, now: Instant) -> Mark {
        match (self, other) {
            (Mark::At(one), Mark::At(two)) => Mark::At(one.max(two)),
            (Mark::Unsettled { until: one }, Mark::Unsettled { until: two }) => {
                Mark::Unsettled { until: one.max(two) }
            }
            (Mark::Unsettled { until }, settled) | (settled, Mark::Unsettled { until }) => {
                if until > now { Mark::Unsettled { until } } else { settled }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn user(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    fn replayed(position: i64) -> Need {
        Need::Replayed(Position(position))
    }

    #[test]
    fn reads_need_a_horizon_that_is_recent_enough() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.need(user(1), now, SECOND), Need::Horizon);
        ledger.saw(Position(100), now);
        assert_eq!(ledger.need(user(1), now + SECOND, SECOND), replayed(100));
        assert_eq!(ledger.need(user(1), now + SECOND * 2, SECOND), Need::Horizon);
        assert_eq!(ledger.need(user(1), now, Duration::ZERO), replayed(100));
        // An answer that comes late does not take the place of a newer one.
        ledger.saw(Position(200), now + SECOND * 2);
        ledger.saw(Position(150), now + SECOND);
        assert_eq!(ledger.need(user(1), now + SECOND * 2, SECOND), replayed(200));
    }

    #[test]
    fn a_writer_needs_its_write_until_the_horizon_is_past_it() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.saw(Position(100), now);
        ledger.wrote(user(1), Some(Position(300)), now);
        ledger.wrote(user(1), Some(Position(250)), now);
        assert_eq!(ledger.need(user(1), now, SECOND), replayed(300));
        assert_eq!(ledger.need(user(2), now, SECOND), replayed(100), "others do not wait");
        ledger.saw(Position(200), now);
        assert_eq!(ledger.need(user(1), now, SECOND), replayed(300));
        ledger.saw(Position(400), now);
        assert_eq!(ledger.need(user(1), now, SECOND), replayed(400));
        assert!(ledger.marks.is_empty());
    }

    #[test]
    fn after_a_write_that_perhaps_happened_the_primary_is_asked_for_a_while() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.wrote(user(1), None, now);
        ledger.saw(Position(500), now);
        assert_eq!(ledger.need(user(1), now, SECOND), Need::Primary);
        ledger.wrote(user(1), Some(Position(600)), now);
        assert_eq!(ledger.need(user(1), now, SECOND), Need::Primary, "a later one settles nothing");
        let later = now + UNSETTLED;
        ledger.saw(Position(700), later);
        assert_eq!(ledger.need(user(1), later, SECOND), replayed(700));
    }

    #[test]
    fn of_too_many_writers_everybody_waits_for_the_last() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.saw(Position(1), now);
        for number in 0..=MAX_MARKS as u128 {
            ledger.wrote(user(number), Some(Position(number as i64 + 2)), now);
        }
        assert!(ledger.marks.len() <= MAX_MARKS);
        let last = MAX_MARKS as i64 + 2;
        assert_eq!(ledger.need(user(0), now, SECOND), replayed(last));
        assert_eq!(ledger.need(user(9_999_999), now, SECOND), replayed(last));
        ledger.saw(Position(1_000_000), now);
        assert!(ledger.mark.is_none());
    }
}
