//! Keeps the leases of this replica's sessions alive, tells sessions that lost theirs, and picks up turns whose
//! owner is gone: a session of this replica that died, or another replica.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::seq::SliceRandom;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::shard::{ShardMsg, Shards};
use crate::actors::supervisor::ChildSpec;
use crate::domain::ids::ScenarioId;
use crate::storage::log::{Fence, LogStore, News};

/// Pause between two ticks, give or take a quarter, so that replicas do not look all at once.
const TICK: Duration = Duration::from_millis(100);
/// Pause between two looks for turns whose owner died without a word; those that were handed over are told of.
const LOOK: Duration = Duration::from_millis(250);
/// Interrupted turns that are listed at each look. Half of them are taken up, drawn by lot, within these bounds: the
/// other half is left to others, and few are claimed in vain.
const ORPHANS_LISTED: usize = 512;
const ORPHANS_TAKEN: RangeInclusive<usize> = 8..=128;

/// The leases held right now. Registered by whoever holds a pen, for as long as it does.
#[derive(Default)]
pub struct Leases {
    held: Mutex<HashMap<ScenarioId, Fence>>,
    /// Whose pen was dropped and not given up: their session died.
    dropped: Mutex<HashSet<ScenarioId>>,
}

impl Leases {
    pub fn register(self: &Arc<Self>, scenario: ScenarioId, fence: Fence) -> LeaseGuard {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(scenario, fence);
        LeaseGuard { leases: Arc::clone(self), scenario, fence, put_down: false }
    }

    /// A session knows itself that its pen is gone.
    pub fn forgive(&self, scenario: ScenarioId) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).remove(&scenario);
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
    put_down: bool,
}

impl LeaseGuard {
    /// The pen is given up in good order.
    pub fn put_down(&mut self) {
        self.put_down = true;
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut held = self.leases.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A newer claim of this replica may have taken the place.
        if held.get(&self.scenario) == Some(&self.fence) {
            held.remove(&self.scenario);
            if !self.put_down {
                let dropped = &self.leases.dropped;
                dropped.lock().unwrap_or_else(PoisonError::into_inner).insert(self.scenario);
            }
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

enum KeeperMsg {
    Tick,
    /// Turns were handed over by another replica.
    Orphans,
}

struct KeeperState {
    args: KeeperArgs,
    renew_at: Instant,
    look_at: Instant,
    /// A store that was away is back for owners first: all leases may have run out meanwhile.
    owners_until: Instant,
    /// How often to look for turns without an owner. Where only this process writes, hardly ever is there one.
    look_every: Duration,
    /// Listens for what other replicas hand over.
    _listener: Option<AbortOnDropHandle<()>>,
}

impl Actor for Keeper {
    type Msg = KeeperMsg;
    type State = KeeperState;
    type Arguments = KeeperArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<KeeperMsg>,
        args: KeeperArgs,
    ) -> Result<KeeperState, ActorProcessingErr> {
        let now = Instant::now();
        let news = args.log.follow_orphans();
        let look_every = if news.is_some() { LOOK } else { args.every };
        let listener = news.map(|news| AbortOnDropHandle::new(tokio::spawn(listen(news, myself))));
        Ok(KeeperState {
            args,
            renew_at: now,
            look_at: now,
            owners_until: now,
            look_every,
            _listener: listener,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<KeeperMsg>,
        _state: &mut KeeperState,
    ) -> Result<(), ActorProcessingErr> {
        // What an earlier process left open goes on at once.
        Ok(myself.cast(KeeperMsg::Tick)?)
    }

    /// Nobody waits for the keeper, so it may wait for the store. The next tick is planned when this one is done: a
    /// store that does not answer leaves no pile of ticks behind.
    async fn handle(
        &self,
        myself: ActorRef<KeeperMsg>,
        message: KeeperMsg,
        state: &mut KeeperState,
    ) -> Result<(), ActorProcessingErr> {
        let (args, now) = (&state.args, Instant::now());
        if let KeeperMsg::Orphans = message {
            // With the next tick: many are told of at once.
            state.look_at = now;
            return Ok(());
        }
        args.take_back();
        let mut answers = true;
        if now >= state.renew_at {
            answers = args.renew().await;
            // A store that was away is asked again soon: leases may be about to run out, or have.
            state.renew_at = if answers { now + args.every } else { now };
        }
        if answers && now >= state.look_at.max(state.owners_until) {
            answers = args.pick_up().await;
            state.look_at = now + state.look_every;
        }
        if !answers {
            state.owners_until = Instant::now() + args.every;
        }
        myself.send_after(TICK.mul_f64(rand::random_range(0.75..1.25)), || KeeperMsg::Tick);
        Ok(())
    }
}

async fn listen(news: News, keeper: ActorRef<KeeperMsg>) {
    loop {
        news.wait().await;
        if keeper.cast(KeeperMsg::Orphans).is_err() {
            return;
        }
    }
}

impl KeeperArgs {
    /// Has sessions that died come back: this replica holds their leases still.
    fn take_back(&self) {
        let mut dropped = self.leases.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if dropped.is_empty() {
            return;
        }
        let scenarios = std::mem::take(&mut *dropped);
        drop(dropped);
        if self.turns.is_closed() {
            return;
        }
        for scenario in scenarios {
            if self.shards.send(scenario, ShardMsg::Resume(scenario)).is_err() {
                // Its shard is being restarted.
                self.leases.dropped.lock().unwrap_or_else(PoisonError::into_inner).insert(scenario);
            }
        }
    }

    /// Whether the store answered.
    async fn renew(&self) -> bool {
        let held = self.leases.list();
        if held.is_empty() {
            return true;
        }
        match timeout(self.every, self.log.renew(&held, self.ttl)).await {
            Ok(Ok(lost)) if lost.is_empty() => return true,
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
                return true;
            }
            Ok(Err(error)) => tracing::warn!(%error, "leases were not renewed"),
            Err(_) => tracing::warn!("leases were not renewed in time"),
        }
        false
    }

    /// Whether the store answered.
    async fn pick_up(&self) -> bool {
        let places = if self.turns.is_closed() { 0 } else { self.turns.available_permits() };
        if places == 0 {
            return true;
        }
        match timeout(self.every, self.log.list_orphans(ORPHANS_LISTED)).await {
            Ok(Ok(mut orphans)) => {
                orphans.shuffle(&mut rand::rng());
                let share = (orphans.len() / 2).clamp(*ORPHANS_TAKEN.start(), *ORPHANS_TAKEN.end());
                for scenario in orphans.into_iter().take(places.min(share)) {
                    self.shards.tell(scenario, ShardMsg::Resume(scenario));
                }
                return true;
            }
            Ok(Err(error)) => tracing::warn!(%error, "interrupted turns were not listed"),
            Err(_) => tracing::warn!("interrupted turns were not listed in time"),
        }
        false
    }
}
