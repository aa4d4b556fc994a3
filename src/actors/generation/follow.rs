//! Followers: while readers wait here for a log that another replica writes, one task per log reads for all of them
//! what is new in the store. It starts with the first reader and ends with the last one, or when the pen comes here.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::shard::{ShardMsg, Shards};
use super::tail::{Adopted, Tail};
use super::writer::in_time;
use crate::storage::log::{LogError, LogStore, News};

/// Bytes read at once.
const PAGE_BYTES: usize = 64 * 1024;
/// First and longest wait between tries while the store is away: readers just wait.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// A log without news for this long keeps little in memory.
const QUIET: Duration = Duration::from_secs(5);
/// How long a log that was rolled back is left to its owner, or to a session here, to be begun anew.
const MENDED_WITHIN: Duration = Duration::from_secs(4);
const MEND_AGAIN: Duration = Duration::from_millis(250);

/// What followers need.
pub struct Following {
    log: Arc<dyn LogStore>,
    shards: Shards,
}

impl Following {
    pub fn new(log: Arc<dyn LogStore>, shards: Shards) -> Self {
        Self { log, shards }
    }

    /// Starts follower `id` of the tail; `None` if nobody but this process can write the log. It looks at once if the
    /// tail is `behind`, and else when there are news.
    pub fn start(&self, tail: &Arc<Tail>, id: u64, behind: bool) -> Option<AbortHandle> {
        // A reader may leave when everything ends.
        let runtime = Handle::try_current().ok()?;
        let news = self.log.follow(tail.scenario())?;
        let follower = Follower {
            tail: Arc::clone(tail),
            id,
            log: Arc::clone(&self.log),
            shards: self.shards.clone(),
            news,
        };
        Some(runtime.spawn(follower.run(behind)).abort_handle())
    }
}

struct Follower {
    tail: Arc<Tail>,
    id: u64,
    log: Arc<dyn LogStore>,
    shards: Shards,
    news: News,
}

enum Looked {
    Level,
    Over,
}

impl Follower {
    async fn run(self, behind: bool) {
        let mut look = behind;
        loop {
            if look && let Looked::Over = Box::pin(self.catch_up()).await {
                return;
            }
            look = true;
            if timeout(QUIET, self.news.wait()).await.is_err() {
                self.tail.relax();
                self.news.wait().await;
            }
        }
    }

    /// Reads until the tail is level with the store, however long the store is away.
    async fn catch_up(&self) -> Looked {
        let mut wait = RETRY_MIN;
        let mut rolled_back: Option<Instant> = None;
        let mut compare = true;
        loop {
            let Some(seen) = self.tail.followed(self.id) else { return Looked::Over };
            let after = match seen.epoch {
                None => i64::MAX as u64,
                // With the last known event: is it still that one?
                Some(_) if compare && seen.last.is_some() => seen.head.saturating_sub(1),
                Some(_) => seen.head,
            };
            let read = in_time(self.log.read(self.tail.scenario(), after, PAGE_BYTES)).await;
            let adopted = match read {
                // The next event is larger than what is read at once: alone it is read all the same.
                Ok(Some(page))
                    if after < seen.head
                        && page.frames.len() == 1
                        && page.extent.head > seen.head
                        && page.frames[0].0 == seen.head =>
                {
                    compare = false;
                    continue;
                }
                // It may have grown again meanwhile: other events under numbers that were shown.
                Ok(Some(page))
                    if rolled_back.is_some() && seen.epoch.as_ref() == Some(&page.extent.epoch) =>
                {
                    Adopted::RolledBack
                }
                Ok(Some(page)) => self.tail.adopt(self.id, &seen, page),
                // Lost, or deleted. Should it begin anew, there will be news; till then there is nothing to show.
                Ok(None) => Adopted::Level,
                Err(error) => {
                    self.wait_for_store(&error, wait).await;
                    wait = (wait * 2).min(RETRY_MAX);
                    continue;
                }
            };
            (wait, compare) = (RETRY_MIN, true);
            match adopted {
                Adopted::More => {}
                Adopted::Level => return Looked::Level,
                Adopted::Over => return Looked::Over,
                Adopted::RolledBack => {
                    let since = *rolled_back.get_or_insert_with(Instant::now);
                    if since.elapsed() > MENDED_WITHIN {
                        self.tail.retire(self.id);
                        return Looked::Over;
                    }
                    // Whoever owns the log begins it anew; if nobody does, a session here finds what the tail knows.
                    let scenario = self.tail.scenario();
                    self.shards.tell(scenario, ShardMsg::Resume(scenario));
                    sleep(MEND_AGAIN).await;
                }
            }
        }
    }

    async fn wait_for_store(&self, error: &LogError, wait: Duration) {
        tracing::debug!(scenario = %self.tail.scenario(), %error, "log could not be followed");
        // Followers of many logs should not come back as one.
        sleep(wait.mul_f64(rand::random_range(0.5..1.5))).await;
    }
}
