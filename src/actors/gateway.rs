//! The gateway's own state: who is connected, whether this replica takes requests, and how the whole tree is doing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::circuit::State;
use super::dependencies::{Answering, DependencyStatus};
use super::status::{Liveness, ServiceStatus};
use crate::config;
use crate::domain::ids::UserId;

/// Time over which open sockets are sent away when the replica drains.
pub const GOING_AWAY_OVER: Duration = Duration::from_secs(3);

/// Cheap to clone.
#[derive(Clone)]
pub struct GatewayHandle(Arc<Inner>);

struct Inner {
    stage: AtomicU8,
    draining: CancellationToken,
    services: Vec<Arc<ServiceStatus>>,
    dependencies: Vec<Arc<DependencyStatus>>,
    sockets: Mutex<Sockets>,
    max_sockets: usize,
    max_sockets_per_user: usize,
}

#[derive(Default)]
struct Sockets {
    total: usize,
    by_user: HashMap<UserId, usize>,
}

/// What this replica does with new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Starting,
    Serving,
    Draining,
}

/// How the whole process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Ok,
    /// Something is away that something else stands in for.
    Degraded,
    Down,
}

impl GatewayHandle {
    pub fn new(
        config: &config::Sockets,
        services: Vec<Arc<ServiceStatus>>,
        dependencies: Vec<Arc<DependencyStatus>>,
    ) -> Self {
        Self(Arc::new(Inner {
            stage: AtomicU8::new(Stage::Starting as u8),
            draining: CancellationToken::new(),
            services,
            dependencies,
            sockets: Mutex::default(),
            max_sockets: config.max_connections,
            max_sockets_per_user: config.max_connections_per_user,
        }))
    }

    pub fn stage(&self) -> Stage {
        match self.0.stage.load(Ordering::Acquire) {
            0 => Stage::Starting,
            1 => Stage::Serving,
            _ => Stage::Draining,
        }
    }

    pub fn serve(&self) {
        self.0.stage.store(Stage::Serving as u8, Ordering::Release);
    }

    /// Not ready any more; sockets and streams are told to go.
    pub fn drain(&self) {
        self.0.stage.store(Stage::Draining as u8, Ordering::Release);
        self.0.draining.cancel();
    }

    /// Cancelled when the replica drains.
    pub fn draining(&self) -> &CancellationToken {
        &self.0.draining
    }

    pub fn services(&self) -> &[Arc<ServiceStatus>] {
        &self.0.services
    }

    pub fn dependencies(&self) -> &[Arc<DependencyStatus>] {
        &self.0.dependencies
    }

    /// A place for one more socket, given back when dropped; `None` if replica or user has enough.
    pub fn admit_socket(&self, user: UserId) -> Option<SocketPlace> {
        let mut sockets = self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = sockets.by_user.get(&user).copied().unwrap_or(0);
        if sockets.total >= self.0.max_sockets || of_user >= self.0.max_sockets_per_user {
            return None;
        }
        sockets.total += 1;
        sockets.by_user.insert(user, of_user + 1);
        Some(SocketPlace { gateway: self.clone(), user })
    }

    pub fn open_sockets(&self) -> usize {
        self.0.sockets.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    pub fn health(&self) -> Health {
        let built = || self.0.services.iter().filter(|service| service.planned.is_none());
        let down = built().any(|service| service.liveness() == Liveness::Down)
            || pools(built())
                .any(|(name, state)| !replaceable(name) && state != Some(State::Closed));
        let degraded = built().any(|service| service.liveness() != Liveness::Up)
            || pools(built()).any(|(_, state)| state != Some(State::Closed))
            // What nobody needs at the moment, or what is done without.
            || self.dependencies().iter().any(|one| one.answering() == Answering::Down);
        match (down, degraded) {
            (true, _) => Health::Down,
            (false, true) => Health::Degraded,
            (false, false) => Health::Ok,
        }
    }
}

fn pools<'a>(
    services: impl Iterator<Item = &'a Arc<ServiceStatus>>,
) -> impl Iterator<Item = (&'static str, Option<State>)> {
    services.flat_map(|service| service.pools.iter()).map(|pool| (pool.name(), pool.circuit()))
}

/// The embedded storyteller stands in for any text provider, what is not looked up is done without, and without a
/// moderator what is configured for that case holds.
fn replaceable(pool: &str) -> bool {
    (pool.starts_with("text.") && pool != "text.storyteller")
        || pool.starts_with("search.")
        || pool.starts_with("moderation.")
}

/// A socket's place among the open ones.
pub struct SocketPlace {
    gateway: GatewayHandle,
    user: UserId,
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        let mut sockets = self.gateway.0.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        sockets.total = sockets.total.saturating_sub(1);
        if let Some(count) = sockets.by_user.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                sockets.by_user.remove(&self.user);
            }
        }
    }
}
