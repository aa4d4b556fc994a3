//! Keeps the leases of this replica's sessions alive, tells sessions that lost theirs, and picks up turns whose
//! owner is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::shard::{ShardMsg, Shards};
use crate::actors::supervisor::ChildSpec;
use crate::domain::ids::ScenarioId;
use crate::storage::log::{Fence, LogStore};

/// Interrupted turns taken up at each tick.
const ORPHANS_PER_TICK: usize = 256;

/// The leases held right now. Registered by whoever holds a pen, for as long as it does.
#[derive(Default)]
pub struct Leases {
    held: Mutex<HashMap<ScenarioId, Fence>>,
}

impl Leases {
    pub fn register(self: &Arc<Self>, scenario: ScenarioId, fence: Fence) -> LeaseGuard {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(scenario, fence);
        LeaseGuard { leases: Arc::clone(self), scenario, fence }
    }

    pub fn count(&self) -> usize {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether this is still the pen in use.
    fn holds(&self, scenario: ScenarioId, fence: Fence) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&scenario) == Some(&fence)
    }

    fn list(&self) -> Vec<(ScenarioId, Fence)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(scenario, fence)| (*scenario, *fence)).collect()
    }
}

pub struct LeaseGuard {
    leases: Arc<Leases>,
    scenario: ScenarioId,
    fence: Fence,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut held = self.leases.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A newer claim of this replica may have taken the place.
        if held.get(&self.scenario) == Some(&self.fence) {
            held.remove(&self.scenario);
        }
        if held.capacity() > 64 && held.len() < held.capacity() / 4 {
            held.shrink_to_fit();
        }
    }
}

/// The keeper's row in the tree.
pub fn child(args: KeeperArgs) -> ChildSpec {
    ChildSpec::permanent("leases", move |parent| {
        let args = args.clone();
        Box::pin(async move {
            let (keeper, _) = Actor::spawn_linked(None, Keeper, args, parent).await?;
            Ok(keeper.get_cell())
        })
    })
}

#[derive(Clone)]
pub struct KeeperArgs {
    pub log: Arc<dyn LogStore>,
    pub leases: Arc<Leases>,
    pub shards: Shards,
    pub ttl: Duration,
    pub every: Duration,
    /// Places for turns: as many interrupted ones are taken up as there are, none while draining.
    pub turns: Arc<Semaphore>,
}

struct Keeper;

struct Tick;

impl Actor for Keeper {
    type Msg = Tick;
    type State = KeeperArgs;
    type Arguments = KeeperArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<Tick>,
        args: KeeperArgs,
    ) -> Result<KeeperArgs, ActorProcessingErr> {
        Ok(args)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Tick>,
        _args: &mut KeeperArgs,
    ) -> Result<(), ActorProcessingErr> {
        // What an earlier process left open goes on at once.
        Ok(myself.cast(Tick)?)
    }

    /// Nobody waits for the keeper, so it may wait for the store. The next tick is planned when this one is done: a
    /// store that does not answer leaves no pile of ticks behind.
    async fn handle(
        &self,
        myself: ActorRef<Tick>,
        _tick: Tick,
        args: &mut KeeperArgs,
    ) -> Result<(), ActorProcessingErr> {
        let since = Instant::now();
        args.renew().await;
        args.pick_up().await;
        myself.send_after(args.every.saturating_sub(since.elapsed()), || Tick);
        Ok(())
    }
}

impl KeeperArgs {
    async fn renew(&self) {
        let held = self.leases.list();
        if held.is_empty() {
            return;
        }
        match timeout(self.every, self.log.renew(&held, self.ttl)).await {
            Ok(Ok(lost)) if lost.is_empty() => {}
            Ok(Ok(lost)) => {
                let fences: HashMap<_, _> = held.into_iter().collect();
                for scenario in lost {
                    // A pen that was put down (or taken up anew) meanwhile was not lost.
                    if let Some(fence) = fences.get(&scenario)
                        && self.leases.holds(scenario, *fence)
                    {
                        tracing::warn!(%scenario, "lease lost");
                        self.shards.tell(scenario, ShardMsg::LeaseLost(scenario, *fence));
                    }
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "leases were not renewed"),
            Err(_) => tracing::warn!("leases were not renewed in time"),
        }
    }

    async fn pick_up(&self) {
        let places = if self.turns.is_closed() { 0 } else { self.turns.available_permits() };
        let limit = places.min(ORPHANS_PER_TICK);
        if limit == 0 {
            return;
        }
        match timeout(self.every, self.log.list_orphans(limit)).await {
            Ok(Ok(orphans)) => {
                for scenario in orphans {
                    self.shards.tell(scenario, ShardMsg::Resume(scenario));
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "interrupted turns were not listed"),
            Err(_) => tracing::warn!("interrupted turns were not listed in time"),
        }
    }
}
