//! The names of a log in Redis.

use crate::domain::ids::ScenarioId;
use crate::storage::redis::connection::Redis;

/// Parts that the scenarios are spread over, each with an index of its open turns. Part of every key: never changed.
pub(super) const BUCKETS: u8 = 64;

/// The keys of one bucket; they share a hash tag, so that one script may change all of them.
pub(super) struct Bucket<'a> {
    redis: &'a Redis,
    number: u8,
}

impl<'a> Bucket<'a> {
    pub(super) fn numbered(redis: &'a Redis, number: u8) -> Self {
        Self { redis, number }
    }

    /// The bucket of a scenario. The last byte of an id is random.
    pub(super) fn of(redis: &'a Redis, scenario: ScenarioId) -> Self {
        Self { redis, number: number(scenario) }
    }

    /// The events: a stream with one entry `<seq>-0` each, whose one field is the frame.
    pub(super) fn log(&self, scenario: ScenarioId) -> String {
        self.key(format_args!("log:{scenario}"))
    }

    /// Everything else about a log: a hash.
    pub(super) fn meta(&self, scenario: ScenarioId) -> String {
        self.key(format_args!("meta:{scenario}"))
    }

    /// The bucket's scenarios with an open turn, by the end of their lease (ms; 0 when it was given up).
    pub(super) fn open(&self) -> String {
        self.key(format_args!("open"))
    }

    /// When the bucket was first seen, in ms: later than its logs were begun only if they are lost.
    pub(super) fn since(&self) -> String {
        self.key(format_args!("since"))
    }

    /// The channel on which appends to a log are told.
    pub(super) fn news(&self, scenario: ScenarioId) -> String {
        self.key(format_args!("news:{scenario}"))
    }

    /// The channel on which leases are told that were given up with a turn open.
    pub(super) fn orphans(&self) -> String {
        self.key(format_args!("orphans"))
    }

    fn key(&self, name: std::fmt::Arguments<'_>) -> String {
        self.redis.key(format_args!("{{b{}}}:{name}", self.number))
    }
}

pub(super) fn number(scenario: ScenarioId) -> u8 {
    let [.., last] = *scenario.0.as_bytes();
    last % BUCKETS
}
