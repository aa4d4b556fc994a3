//! Keeps the leases of this replica's sessions alive, tells sessions that lost theirs, and picks up turns whose
//! owner is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorProcessingErr, ActorRef};

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
}

struct Keeper;

struct Tick;

struct KeeperState {
    args: KeeperArgs,
    ticker: JoinHandle<()>,
}

impl Drop for KeeperState {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl Actor for Keeper {
    type Msg = Tick;
    type State = KeeperState;
    type Arguments = KeeperArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Tick>,
        args: KeeperArgs,
    ) -> Result<KeeperState, ActorProcessingErr> {
        let ticker = myself.send_interval(args.every, || Tick);
        Ok(KeeperState { args, ticker })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Tick>,
        _state: &mut KeeperState,
    ) -> Result<(), ActorProcessingErr> {
        // What an earlier process left open goes on at once.
        Ok(myself.cast(Tick)?)
    }

    /// Nobody waits for the keeper, so it may wait for the store.
    async fn handle(
        &self,
        _myself: ActorRef<Tick>,
        _tick: Tick,
        state: &mut KeeperState,
    ) -> Result<(), ActorProcessingErr> {
        let KeeperArgs { log, leases, shards, ttl, every } = &state.args;
        let held = leases.list();
        if !held.is_empty() {
            match tokio::time::timeout(*every, log.renew(&held, *ttl)).await {
                Ok(Ok(lost)) => {
                    for scenario in lost {
                        tracing::warn!(%scenario, "lease lost");
                        shards.tell(scenario, ShardMsg::LeaseLost(scenario));
                    }
                }
                Ok(Err(error)) => tracing::warn!(%error, "leases were not renewed"),
                Err(_) => tracing::warn!("leases were not renewed in time"),
            }
        }
        match tokio::time::timeout(*every, log.list_orphans(ORPHANS_PER_TICK)).await {
            Ok(Ok(orphans)) => {
                for scenario in orphans {
                    shards.tell(scenario, ShardMsg::Resume(scenario));
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "interrupted turns were not listed"),
            Err(_) => tracing::warn!("interrupted turns were not listed in time"),
        }
        Ok(())
    }
}
