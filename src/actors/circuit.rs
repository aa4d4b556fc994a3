//! The circuit breaker's rules, without a runtime: when to open, how long to wait, what a probe decides.
//!
//! One supervisor owns a [`Circuit`] and feeds it what happened; a [`Gate`] is the part of it that every caller can
//! read without asking anyone. Nobody else changes either.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// When a circuit opens and how it closes again.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Sliding window over which calls are counted.
    pub window: Duration,
    /// Fewest calls in the window before it can open.
    pub min_calls: u32,
    /// Share of failed calls in the window, above 0 and at most 1, that opens it.
    pub failure_ratio: f64,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

impl From<&config::Circuits> for Policy {
    fn from(config: &config::Circuits) -> Self {
        Self {
            window: config.window,
            min_calls: config.min_calls,
            failure_ratio: config.failure_ratio,
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
        }
    }
}

impl Policy {
    /// How often successes should be handed to [`Circuit::record_successes`] to be counted in the right part of
    /// the window.
    pub fn tick(&self) -> Duration {
        self.window / BUCKETS
    }
}

/// The window is kept in this many parts.
const BUCKETS: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Closed,
    Open,
    /// One probe is under way; its life or death decides.
    HalfOpen,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
        }
    }
}

#[derive(Debug)]
struct Bucket {
    since: Instant,
    succeeded: u64,
    failed: u64,
}

#[derive(Debug)]
pub struct Circuit {
    policy: Policy,
    state: State,
    window: VecDeque<Bucket>,
    /// Failed probes in a row.
    failed_probes: u32,
}

impl Circuit {
    pub fn new(policy: Policy) -> Self {
        Self { policy, state: State::Closed, window: VecDeque::new(), failed_probes: 0 }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn record_successes(&mut self, now: Instant, count: u64) {
        if self.state == State::Closed && count > 0 {
            self.bucket(now).succeeded += count;
        }
    }

    /// Counts a failed call. Returns whether that opened the circuit.
    pub fn record_failure(&mut self, now: Instant) -> bool {
        if self.state != State::Closed {
            return false;
        }
        self.bucket(now).failed += 1;
        let failed: u64 = self.window.iter().map(|bucket| bucket.failed).sum();
        let calls: u64 = failed + self.window.iter().map(|bucket| bucket.succeeded).sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "a ratio of call counts")]
        let open = calls >= u64::from(self.policy.min_calls)
            && failed as f64 >= self.policy.failure_ratio * calls as f64;
        if open {
            self.state = State::Open;
            self.failed_probes = 0;
            self.window.clear();
        }
        open
    }

    /// How long to wait before the next probe: doubled after each failed one, jittered by `random` in `[0, 1)` to
    /// between half of it and all of it, so that replicas do not probe in step.
    pub fn backoff(&self, random: f64) -> Duration {
        let doubled = self.policy.backoff_min.saturating_mul(1 << self.failed_probes.min(20));
        doubled.min(self.policy.backoff_max).mul_f64(0.5 + random / 2.0)
    }

    pub fn begin_probe(&mut self) {
        self.state = State::HalfOpen;
    }

    /// The probe decides: alive closes, dead keeps open and waits longer.
    pub fn end_probe(&mut self, alive: bool) {
        if alive {
            self.state = State::Closed;
            self.failed_probes = 0;
            self.window.clear();
        } else {
            self.state = State::Open;
            self.failed_probes = self.failed_probes.saturating_add(1);
        }
    }

    fn bucket(&mut self, now: Instant) -> &mut Bucket {
        let width = self.policy.tick();
        while self.window.front().is_some_and(|b| now.duration_since(b.since) >= self.policy.window)
        {
            self.window.pop_front();
        }
        if self.window.back().is_none_or(|bucket| now.duration_since(bucket.since) >= width) {
            self.window.push_back(Bucket { since: now, succeeded: 0, failed: 0 });
        }
        let last = self.window.len() - 1;
        &mut self.window[last]
    }
}

/// What callers see of a dependency: open to them or not, in one atomic read.
#[derive(Debug)]
pub struct Gate {
    origin: Instant,
    /// `PASS`, `DOWN`, or twice the millisecond (since `origin`) of the next probe, plus one while it is under way.
    word: AtomicU64,
}

const PASS: u64 = 0;
const DOWN: u64 = u64::MAX;
/// What a refused caller is told to wait when nothing better is known.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);

impl Default for Gate {
    fn default() -> Self {
        Self { origin: Instant::now(), word: AtomicU64::new(PASS) }
    }
}

impl Gate {
    /// `Err` carries how long to stay away.
    #[inline]
    pub fn check(&self) -> Result<(), Duration> {
        match self.word.load(Ordering::Acquire) {
            PASS => Ok(()),
            DOWN => Err(DEFAULT_RETRY * 5),
            word => {
                let until = self.origin + Duration::from_millis(word / 2);
                Err(until.saturating_duration_since(Instant::now()).max(DEFAULT_RETRY))
            }
        }
    }

    /// `None` while whoever serves is down for good.
    pub fn state(&self) -> Option<State> {
        match self.word.load(Ordering::Acquire) {
            PASS => Some(State::Closed),
            DOWN => None,
            word if word % 2 == 1 => Some(State::HalfOpen),
            _ => Some(State::Open),
        }
    }

    pub fn close(&self) {
        self.word.store(PASS, Ordering::Release);
    }

    pub fn open_until(&self, until: Instant) {
        self.word.store(self.millis(until) * 2, Ordering::Release);
    }

    pub fn half_open(&self) {
        self.word.store(self.millis(Instant::now()) * 2 + 1, Ordering::Release);
    }

    pub fn down(&self) {
        self.word.store(DOWN, Ordering::Release);
    }

    fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.origin).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX / 4).clamp(1, u64::MAX / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            window: Duration::from_secs(10),
            min_calls: 10,
            failure_ratio: 0.5,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(30),
        }
    }

    #[test]
    fn opens_at_the_ratio_and_not_before_the_minimum() {
        for (name, succeeded, failures, opens_at) in [
            ("all fail", 0, 20, Some(10)),
            ("half fail", 10, 20, Some(10)),
            ("30 % fail", 70, 30, None),
            ("too few calls", 0, 9, None),
        ] {
            let mut circuit = Circuit::new(policy());
            let now = Instant::now();
            circuit.record_successes(now, succeeded);
            let opened = (1..=failures).find(|_| circuit.record_failure(now));
            assert_eq!(opened, opens_at, "{name}");
        }
    }

    #[test]
    fn old_calls_leave_the_window() {
        let mut circuit = Circuit::new(policy());
        let start = Instant::now();
        circuit.record_successes(start, 1_000);
        let later = start + Duration::from_secs(11);
        let opened = (1..=10).find(|_| circuit.record_failure(later));
        assert_eq!(opened, Some(10), "a thousand old successes must not hide an outage");
    }

    #[test]
    fn backoff_doubles_to_its_maximum_and_is_jittered() {
        let mut circuit = Circuit::new(policy());
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(circuit.backoff(0.999_999).as_millis());
            assert!(circuit.backoff(0.0) < circuit.backoff(0.9));
            circuit.end_probe(false);
        }
        assert_eq!(waits[..4], [49, 99, 199, 399]);
        assert_eq!(waits[11], 29_999);
        circuit.end_probe(true);
        assert_eq!(circuit.backoff(0.999_999).as_millis(), 49);
        assert_eq!(circuit.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_tells_how_long_to_stay_away() {
        let gate = Gate::default();
        assert_eq!(gate.check(), Ok(()));
        gate.open_until(Instant::now() + Duration::from_secs(20));
        assert_eq!(gate.state(), Some(State::Open));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(gate.check(), Err(Duration::from_secs(15)));
        gate.half_open();
        assert_eq!(gate.state(), Some(State::HalfOpen));
        gate.down();
        assert!(gate.check().is_err() && gate.state().is_none());
    }
}
