//! The event logs in Redis: a stream per log, one script per change.
//!
//! Any number of replicas use the same Redis; leases and fences keep them apart. A log and what is known about it live
//! as long as its last change plus the retention; nothing is left behind without an end.

mod answer;
mod keys;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use tokio::sync::Notify;

use self::keys::{BUCKETS, Bucket};
use super::connection::Redis;
use super::failure::Failure;
use super::subscriptions::Subscriptions;
use crate::domain::ids::ScenarioId;
use crate::storage::embedded::new_epoch;
use crate::storage::log::{
    Batch, Claim, Fence, LogError, LogPage, LogStore, News, Origin, SETTLING,
};

/// Beyond the retention, so that trimming, which knows about turns, always comes first.
const GRACE: Duration = Duration::from_secs(3600);
/// Scenarios looked at in one bucket at a time, when looking for orphans.
const MOST_ORPHANS: usize = 1_000;
/// Life of the note by which a server without its data is told from one that was not asked for long.
const REMEMBERED: Duration = Duration::from_secs(90 * 86_400);
/// Times past this are as good as for ever, and doubles hold them exactly.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

/// All logs, in Redis.
pub struct RedisLog {
    redis: Redis,
    subscriptions: Subscriptions,
    /// Milliseconds that a log lives without a change.
    life: u64,
}

impl RedisLog {
    /// Events stay for `retention` at least.
    pub fn new(redis: Redis, subscriptions: Subscriptions, retention: Duration) -> Self {
        Self { redis, subscriptions, life: millis(retention.saturating_add(GRACE)) }
    }

    /// Those of `leases`, all of one bucket, that are no longer current.
    async fn renew_bucket(
        &self,
        number: u8,
        leases: &[(ScenarioId, Fence)],
        ttl: Duration,
    ) -> Result<Vec<ScenarioId>, Failure> {
        let bucket = Bucket::numbered(&self.redis, number);
        let logs = leases.iter().flat_map(|&(s, _)| [bucket.log(s), bucket.meta(s)]);
        let keys: Vec<_> = std::iter::once(bucket.open()).chain(logs).collect();
        let call = scripts::RENEW.on(&keys).arg(millis(ttl)).arg(self.life);
        let call =
            leases.iter().fold(call, |call, (s, fence)| call.arg(s.to_string()).arg(fence.0));
        let lost: Vec<usize> = call.run(&self.redis).await?;
        Ok(lost
            .into_iter()
            .filter_map(|place| Some(leases.get(place.checked_sub(1)?)?.0))
            .collect())
    }

    async fn orphans_in_bucket(
        &self,
        number: u8,
        limit: usize,
    ) -> Result<Vec<ScenarioId>, Failure> {
        let bucket = Bucket::numbered(&self.redis, number);
        let call = scripts::OVERDUE.on(&[bucket.open()]).arg(limit.min(MOST_ORPHANS));
        let overdue: Vec<String> = call.run(&self.redis).await?;
        let overdue: Vec<ScenarioId> = overdue.iter().filter_map(|id| id.parse().ok()).collect();
        if overdue.is_empty() {
            return Ok(overdue);
        }
        let metas = overdue.iter().map(|&scenario| bucket.meta(scenario));
        let keys: Vec<_> = std::iter::once(bucket.open()).chain(metas).collect();
        let call = scripts::CONFIRM.on(&keys);
        let call = overdue.iter().fold(call, |call, scenario| call.arg(scenario.to_string()));
        let there: Vec<usize> = call.run(&self.redis).await?;
        Ok(there
            .into_iter()
            .filter_map(|place| overdue.get(place.checked_sub(1)?).copied())
            .collect())
    }
}

#[async_trait]
impl LogStore for RedisLog {
    async fn claim(
        &self,
        scenario: ScenarioId,
        holder: &str,
        ttl: Duration,
        origin: Origin,
    ) -> Result<Claim, LogError> {
        let bucket = Bucket::of(&self.redis, scenario);
        let settling = match origin {
            Origin::New | Origin::Carried => Duration::ZERO,
            Origin::Lost => SETTLING,
        };
        let call = scripts::CLAIM
            .on(&[bucket.log(scenario), bucket.meta(scenario), bucket.open(), bucket.since()])
            .arg(scenario.to_string())
            .arg(holder)
            .arg(millis(ttl))
            .arg(&*new_epoch())
            .arg(origin.head())
            .arg(self.life)
            .arg(millis(settling))
            .arg(millis(REMEMBERED));
        answer::claim(call.run(&self.redis).await?)
    }

    async fn renew(
        &self,
        leases: &[(ScenarioId, Fence)],
        ttl: Duration,
    ) -> Result<Vec<ScenarioId>, LogError> {
        let mut buckets: BTreeMap<u8, Vec<_>> = BTreeMap::new();
        for lease in leases {
            buckets.entry(keys::number(lease.0)).or_default().push(*lease);
        }
        // Begun together they travel together: one write to each node. A node that is away keeps nobody else's waiting.
        let renewed =
            buckets.iter().map(|(number, leases)| self.renew_bucket(*number, leases, ttl));
        let renewed: Result<Vec<_>, _> = join_all(renewed).await.into_iter().collect();
        Ok(renewed?.concat())
    }

    async fn release(&self, scenario: ScenarioId, fence: Fence) -> Result<(), LogError> {
        let bucket = Bucket::of(&self.redis, scenario);
        let call = scripts::RELEASE
            .on(&[bucket.meta(scenario), bucket.open()])
            .arg(scenario.to_string())
            .arg(fence.0)
            .arg(self.subscriptions.publish_command())
            .arg(bucket.orphans());
        Ok(call.run(&self.redis).await?)
    }

    async fn append(
        &self,
        scenario: ScenarioId,
        fence: Fence,
        batch: Batch,
    ) -> Result<(), LogError> {
        let bucket = Bucket::of(&self.redis, scenario);
        let (has_checkpoint, checkpoint) = match &batch.checkpoint {
            Some(checkpoint) => ("1", &checkpoint[..]),
            None => ("", &b""[..]),
        };
        let call = scripts::APPEND
            .on(&[bucket.log(scenario), bucket.meta(scenario), bucket.open()])
            .arg(scenario.to_string())
            .arg(fence.0)
            .arg(batch.first_seq)
            .arg(self.life)
            .arg(has_checkpoint)
            .arg(checkpoint)
            .arg(batch.open_turn.map_or("", |open| if open { "1" } else { "0" }))
            .arg(self.subscriptions.publish_command())
            .arg(bucket.news(scenario));
        let call = batch.frames.iter().fold(call, |call, frame| call.arg(&frame.bytes()[..]));
        answer::change(call.run(&self.redis).await?)
    }

    async fn read(
        &self,
        scenario: ScenarioId,
        after: u64,
        max_bytes: usize,
    ) -> Result<Option<LogPage>, LogError> {
        let bucket = Bucket::of(&self.redis, scenario);
        let call = scripts::READ
            .on(&[bucket.log(scenario), bucket.meta(scenario)])
            .arg(after)
            .arg(max_bytes);
        let found: Option<Vec<_>> = call.run(&self.redis).await?;
        found.map(answer::page).transpose()
    }

    fn follow(&self, scenario: ScenarioId) -> Option<News> {
        let bell = Arc::new(Notify::new());
        let channel = Bucket::of(&self.redis, scenario).news(scenario);
        let ring = Arc::clone(&bell);
        let subscription = self.subscriptions.listen(&channel, move |_| ring.notify_one());
        Some(News::new(bell, subscription))
    }

    fn follow_orphans(&self) -> Option<News> {
        let bell = Arc::new(Notify::new());
        let listen = |number| {
            let ring = Arc::clone(&bell);
            let channel = Bucket::numbered(&self.redis, number).orphans();
            self.subscriptions.listen(&channel, move |_| ring.notify_one())
        };
        let subscriptions: Vec<_> = (0..BUCKETS).map(listen).collect();
        Some(News::new(bell, subscriptions))
    }

    async fn list_orphans(&self, limit: usize) -> Result<Vec<ScenarioId>, LogError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        // Begun anywhere, so that no bucket is always the last.
        let start = rand::random_range(0..BUCKETS);
        let found = (0..BUCKETS).map(|n| self.orphans_in_bucket((start + n) % BUCKETS, limit));
        let (mut orphans, mut failure) = (Vec::new(), None);
        for found in join_all(found).await {
            match found {
                Ok(found) => orphans.extend(found),
                Err(error) => failure = Some(error),
            }
        }
        orphans.truncate(limit);
        match failure {
            Some(failure) if orphans.is_empty() => Err(failure.into()),
            _ => Ok(orphans),
        }
    }

    async fn trim(&self, scenario: ScenarioId, fence: Fence, up_to: u64) -> Result<(), LogError> {
        let bucket = Bucket::of(&self.redis, scenario);
        let call = scripts::TRIM
            .on(&[bucket.log(scenario), bucket.meta(scenario)])
            .arg(fence.0)
            .arg(up_to);
        answer::change(call.run(&self.redis).await?)
    }

    async fn delete(&self, scenario: ScenarioId) -> Result<(), LogError> {
        let bucket = Bucket::of(&self.redis, scenario);
        let call = scripts::DELETE
            .on(&[bucket.log(scenario), bucket.meta(scenario), bucket.open()])
            .arg(scenario.to_string())
            .arg(self.subscriptions.publish_command())
            .arg(bucket.news(scenario));
        Ok(call.run(&self.redis).await?)
    }
}

fn millis(duration: Duration) -> u64 {
    duration.min(CENTURY).as_millis().try_into().unwrap_or(u64::MAX)
}
