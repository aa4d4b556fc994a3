//! What the shared Redis says: the commands it carried out, its processor time, and who has the pen of a scenario.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use tokio::time::sleep;
use uuid::Uuid;

use crate::clock;

/// Between two looks at a pen.
const LOOK: Duration = Duration::from_millis(2);
/// The product spreads scenarios over this many parts of its keys.
const BUCKETS: u8 = 64;

#[derive(Clone)]
pub struct Redis(MultiplexedConnection);

/// Since the server's start.
#[derive(Default)]
pub struct Counts {
    pub cpu_s: f64,
    /// Calls by command, those of scripts included.
    pub calls: BTreeMap<String, f64>,
}

/// A change of owner.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// When it was seen, in microseconds of the run's clock.
    pub at: u64,
    /// The end of the old owner's last lease, in milliseconds since 1970; 0 if it gave the pen up.
    pub lease_end: u64,
}

impl Redis {
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = redis::Client::open(url)?;
        Ok(Self(client.get_multiplexed_async_connection().await.context("connect to Redis")?))
    }

    pub async fn counts(&mut self) -> anyhow::Result<Counts> {
        let info: String = redis::cmd("INFO").arg("all").query_async(&mut self.0).await?;
        let mut counts = Counts::default();
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            // All its threads.
            if matches!(name, "used_cpu_user" | "used_cpu_sys") {
                counts.cpu_s += value.parse::<f64>()?;
            }
            if let Some(command) = name.strip_prefix("cmdstat_") {
                let calls = value.strip_prefix("calls=").and_then(|rest| rest.split(',').next());
                let calls = calls.context("unexpected form of INFO")?.parse()?;
                counts.calls.insert(command.into(), calls);
            }
        }
        Ok(counts)
    }

    /// Watches the pen of a scenario until another hand takes it.
    pub async fn pen(mut self, prefix: String, scenario: String) -> anyhow::Result<Change> {
        let [.., last] = *Uuid::parse_str(&scenario)?.as_bytes();
        let key = format!("{prefix}:{{b{}}}:meta:{scenario}", last % BUCKETS);
        let mut known: Option<(String, u64)> = None;
        loop {
            let mut query = redis::cmd("HMGET");
            query.arg(&key).arg("fence").arg("lease_end");
            let (fence, lease_end): (Option<String>, Option<u64>) =
                query.query_async(&mut self.0).await?;
            let fence = fence.with_context(|| format!("nobody has had {key}"))?;
            if let Some((first, lease_end)) = &known
                && *first != fence
            {
                return Ok(Change { at: clock::micros(), lease_end: *lease_end });
            }
            known = Some((fence, lease_end.unwrap_or_default()));
            sleep(LOOK).await;
        }
    }
}

impl Counts {
    /// What was done since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let mut calls = BTreeMap::new();
        for (command, count) in &self.calls {
            let count = count - before.calls.get(command).unwrap_or(&0.0);
            if count > 0.0 {
                calls.insert(command.clone(), count);
            }
        }
        Self { cpu_s: self.cpu_s - before.cpu_s, calls }
    }

    pub fn total(&self) -> f64 {
        self.calls.values().sum()
    }
}
