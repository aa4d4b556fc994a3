//! Who wants to hear of which log, among the replicas that share a log in one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::ScenarioId;
use crate::storage::log::News;

type Hung = HashMap<ScenarioId, Vec<Arc<Notify>>>;

/// The bells of all followers, by scenario; a scenario without followers takes no room.
#[derive(Default)]
pub(super) struct Bells {
    hung: Mutex<Hung>,
}

impl Bells {
    /// Hangs one more bell, until the news are dropped.
    pub(super) fn hang(self: &Arc<Self>, scenario: ScenarioId) -> News {
        let bell = Arc::new(Notify::new());
        self.hung().entry(scenario).or_default().push(Arc::clone(&bell));
        let follower = Follower { bells: Arc::clone(self), scenario, bell: Arc::clone(&bell) };
        News::new(bell, follower)
    }

    pub(super) fn ring(&self, scenario: ScenarioId) {
        self.hung().get(&scenario).into_iter().flatten().for_each(|bell| bell.notify_one());
    }

    /// No code panics while it holds this, so a poisoned one is whole.
    fn hung(&self) -> MutexGuard<'_, Hung> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes its bell down when it is dropped.
struct Follower {
    bells: Arc<Bells>,
    scenario: ScenarioId,
    bell: Arc<Notify>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut hung = self.bells.hung();
        if let Some(bells) = hung.get_mut(&self.scenario) {
            bells.retain(|bell| !Arc::ptr_eq(bell, &self.bell));
            if bells.is_empty() {
                hung.remove(&self.scenario);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_follower_hears_until_it_goes() {
        let bells = Arc::new(Bells::default());
        let (one, other) =
            (ScenarioId::new(Timestamp::UNIX_EPOCH), ScenarioId::new(Timestamp::UNIX_EPOCH));
        let (first, second, elsewhere) = (bells.hang(one), bells.hang(one), bells.hang(other));
        bells.ring(one);
        bells.ring(one);
        let soon = Duration::from_secs(1);
        timeout(soon, first.wait()).await.unwrap();
        timeout(soon, second.wait()).await.unwrap();
        timeout(soon, first.wait()).await.expect_err("told once, however often it rang");
        timeout(soon, elsewhere.wait()).await.expect_err("another log's news");

        drop(first);
        bells.ring(one);
        timeout(soon, second.wait()).await.unwrap();
        drop((second, elsewhere));
        assert!(bells.hung().is_empty(), "a log that nobody follows takes no room");
    }
}
