//! The supervision tree, as the list of the root's children: started in this order, stopped in reverse.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, SpawnErr};

use super::status::{Liveness, ServiceStatus};
use super::supervisor::{
    ChildSpec, Excess, Intensity, Supervisor, SupervisorArgs, stop_supervisor,
};

/// A child that failed too often is tried again after this long.
const REVIVE_AFTER: Duration = Duration::from_secs(30);
const NOT_BUILT: &str = "not part of this version";

/// The root's children. Who needs another one stands below it.
pub struct Tree {
    pub user: ChildSpec,
    pub history: ChildSpec,
    /// The generation service, the session shards and the lease keeper.
    pub generation: Vec<ChildSpec>,
    pub chat: ChildSpec,
    pub gateway: ChildSpec,
    pub housekeeping: ChildSpec,
    /// Looks at what all of them depend on.
    pub probes: ChildSpec,
}

/// The services that have their place in the tree and serve nothing yet.
pub fn planned() -> Vec<(ChildSpec, Arc<ServiceStatus>)> {
    ["sharing", "video", "social"]
        .into_iter()
        .map(|name| {
            let status = ServiceStatus::planned(name, NOT_BUILT);
            let child = ChildSpec::supervisor(name, Vec::new()).status(Arc::clone(&status));
            (child, status)
        })
        .collect()
}

/// The running tree.
pub struct Root(ActorCell);

impl Tree {
    /// Starts everything.
    ///
    /// # Errors
    /// If a child cannot even be spawned.
    pub async fn start(self, planned: Vec<ChildSpec>) -> Result<Root, SpawnErr> {
        let per_minute = Intensity::new(5, Duration::from_secs(60));
        let mut children = vec![self.user, self.history];
        children.extend(planned);
        children.extend(self.generation);
        children.extend([self.chat, self.gateway, self.housekeeping, self.probes]);
        let children = children.into_iter().map(|child| child.intensity(per_minute)).collect();
        let excess = Excess::Contain { revive_after: REVIVE_AFTER };
        let args = SupervisorArgs { name: "root", children, excess };
        let (root, _) = Actor::spawn(None, Supervisor, args).await?;
        Ok(Root(root.get_cell()))
    }
}

impl Root {
    /// Stops children in reverse order, each within its own budget, all within `budget`.
    pub async fn stop(self, budget: Duration) {
        stop_supervisor(self.0, budget).await;
    }
}

/// Whether every built service is up.
pub fn all_up(services: &[Arc<ServiceStatus>]) -> bool {
    services.iter().all(|service| service.liveness() == Liveness::Up)
}
