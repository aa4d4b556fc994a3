//! What the clients of one run saw, added up.

use serde::{Deserialize, Serialize};

/// Buckets per doubling: values are told apart to about 3 %.
const SUB: u64 = 32;
const SUB_BITS: u32 = SUB.ilog2();
/// Most faults quoted; the rest are only counted.
const QUOTED: usize = 5;

/// Counts of microseconds in buckets that grow with the value.
#[derive(Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Histogram {
    pub fn record(&mut self, micros: u64) {
        let bucket = bucket(micros);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    pub fn quantiles(&self) -> Quantiles {
        let ms = |micros: u64| micros as f64 / 1e3;
        Quantiles {
            count: self.total,
            p50_ms: ms(self.quantile(0.50)),
            p90_ms: ms(self.quantile(0.90)),
            p99_ms: ms(self.quantile(0.99)),
            max_ms: ms(self.max),
        }
    }

    /// The upper bound of the bucket in which the quantile lies.
    fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && seen > 0 {
                return upper_bound(bucket as u64).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BITS;
    (u64::from(shift + 1) * SUB + (value >> shift) - SUB) as usize
}

fn upper_bound(bucket: u64) -> u64 {
    if bucket < SUB {
        return bucket;
    }
    let shift = bucket / SUB - 1;
    ((bucket % SUB + SUB + 1) << shift) - 1
}

/// Filled by all streams of one client process.
#[derive(Default)]
pub struct Stats {
    pub tokens: u64,
    pub frames: u64,
    pub bytes: u64,
    pub whole: u64,
    pub failed: u64,
    pub first_text: Histogram,
    pub latency: Histogram,
    pub faults: Vec<String>,
    pub stalled: Option<Stalled>,
}

/// What became of the reader that stopped reading.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stalled {
    /// Bytes of messages it got after it had begun to read again.
    pub bytes: u64,
    pub frames: u64,
    /// How its connection ended, or that it was still open.
    pub end: String,
}

/// The client process's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Words of prose that arrived, each once and in order.
    pub tokens: u64,
    /// WebSocket messages while the scenes streamed.
    pub frames: u64,
    /// Bytes of those messages.
    pub bytes: u64,
    /// Streams whose whole scene was checked word by word.
    pub whole: u64,
    pub failed: u64,
    /// From asking for a scene to its first text.
    pub first_text: Quantiles,
    /// From a word's sending by the upstream to its arrival.
    pub latency: Quantiles,
    pub wall_s: f64,
    pub faults: Vec<String>,
    pub stalled: Option<Stalled>,
}

impl Stats {
    pub fn fault(&mut self, error: &anyhow::Error) {
        self.failed += 1;
        if self.faults.len() < QUOTED {
            self.faults.push(format!("{error:#}"));
        }
    }

    pub fn report(&self, wall_s: f64) -> Report {
        Report {
            tokens: self.tokens,
            frames: self.frames,
            bytes: self.bytes,
            whole: self.whole,
            failed: self.failed,
            first_text: self.first_text.quantiles(),
            latency: self.latency.quantiles(),
            wall_s,
            faults: self.faults.clone(),
            stalled: self.stalled.clone(),
        }
    }
}
