//! How the parts of the tree are doing, readable by anyone without asking an actor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::pool::PoolView;

/// The state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Liveness {
    Starting,
    Up,
    Restarting,
    /// Failed more often than its parent allows; tried again now and then.
    Down,
    Stopped,
}

impl Liveness {
    pub const fn as_str(self) -> &'static str {
        match self {
            Liveness::Starting => "starting",
            Liveness::Up => "up",
            Liveness::Restarting => "restarting",
            Liveness::Down => "down",
            Liveness::Stopped => "stopped",
        }
    }
}

/// One service of the tree, for health and metrics. Written by its supervisor only.
pub struct ServiceStatus {
    pub name: &'static str,
    /// Why the service answers nothing in this version, if it does not.
    pub planned: Option<&'static str>,
    pub pools: Vec<Arc<dyn PoolView>>,
    liveness: AtomicU8,
    restarts: AtomicU64,
}

impl ServiceStatus {
    pub fn new(name: &'static str, pools: Vec<Arc<dyn PoolView>>) -> Arc<Self> {
        Self::build(name, pools, None)
    }

    /// A service that has its place in the tree but serves nothing yet.
    pub fn planned(name: &'static str, why: &'static str) -> Arc<Self> {
        Self::build(name, Vec::new(), Some(why))
    }

    fn build(
        name: &'static str,
        pools: Vec<Arc<dyn PoolView>>,
        planned: Option<&'static str>,
    ) -> Arc<Self> {
        let liveness = AtomicU8::new(Liveness::Starting as u8);
        Arc::new(Self { name, planned, pools, liveness, restarts: AtomicU64::new(0) })
    }

    pub fn liveness(&self) -> Liveness {
        match self.liveness.load(Ordering::Acquire) {
            0 => Liveness::Starting,
            1 => Liveness::Up,
            2 => Liveness::Restarting,
            3 => Liveness::Down,
            _ => Liveness::Stopped,
        }
    }

    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, liveness: Liveness) {
        self.liveness.store(liveness as u8, Ordering::Release);
        if liveness == Liveness::Restarting {
            self.restarts.fetch_add(1, Ordering::Relaxed);
        }
        if liveness == Liveness::Down {
            self.pools.iter().for_each(|pool| pool.refuse_all());
        }
    }
}
