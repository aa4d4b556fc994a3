//! How a session comes back: its scenario, its lease, its checkpoint, and the scene it stands at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::GenerationDeps;
use super::checkpoint::Checkpoint;
use super::session::{Current, Ready};
use super::writer::LogWriter;
use crate::domain::ids::{ScenarioId, SceneId};
use crate::domain::scenario::Scenario;
use crate::error::ServiceError;
use crate::storage::log::{Claim, Lease, LogError, Origin};

/// Longest that a command waits for a lease that someone else holds.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);

pub struct Loaded {
    pub ready: Ready,
    /// The place of the open turn, if there is one.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Why a session could not be loaded, and whether another try may help.
pub struct LoadError {
    pub error: ServiceError,
    pub retry: bool,
}

impl From<ServiceError> for LoadError {
    fn from(error: ServiceError) -> Self {
        Self { retry: error.code.retryable(), error }
    }
}

impl From<LogError> for LoadError {
    fn from(error: LogError) -> Self {
        tracing::warn!(%error, "log is not available");
        ServiceError::unavailable("event log", Duration::from_secs(1)).into()
    }
}

pub async fn load(deps: &GenerationDeps, scenario: ScenarioId) -> Result<Loaded, LoadError> {
    let Some(record) = deps.history.find(scenario).await? else {
        // Deleted: its log goes too, and with it any open turn.
        deps.log.delete(scenario).await?;
        return Err(ServiceError::scenario_not_found().into());
    };
    let lease = claim(deps, &record).await?;
    let checkpoint = match &lease.checkpoint {
        Some(bytes) => Checkpoint::decode(bytes).map_err(|error| {
            tracing::error!(%scenario, %error, "checkpoint is unreadable");
            LoadError { error: ServiceError::internal(), retry: false }
        })?,
        None => Checkpoint::new(next_scene(deps, &record).await?),
    };
    let current = match record.current_scene {
        None => None,
        Some(scene) => deps
            .history
            .find_scene(scenario, scene)
            .await?
            .map(|scene| Current { scene: scene.id, choices: scene.choices }),
    };
    let permit = match &checkpoint.open {
        None => None,
        // An interrupted turn was admitted once; it waits for its place instead of being refused.
        Some(_) => Arc::clone(&deps.turns).acquire_owned().await.ok(),
    };
    let tail = deps.hub.tail(scenario);
    let writer = LogWriter::new(Arc::clone(&deps.log), tail, &deps.leases, scenario, &lease);
    writer.tail().set_open(checkpoint.open.as_ref().map(|open| open.from));
    let ready = Ready { scenario: Arc::new(record), writer, checkpoint, current };
    Ok(Loaded { ready, permit })
}

async fn claim(deps: &GenerationDeps, record: &Scenario) -> Result<Lease, LoadError> {
    let origin = if record.scene_count == 0 { Origin::New } else { Origin::Lost };
    let since = Instant::now();
    loop {
        let ttl = deps.config.lease_ttl;
        match deps.log.claim(record.id, &deps.replica, ttl, origin).await? {
            Claim::Granted(lease) => return Ok(lease),
            Claim::Held { holder, expires_in } => {
                if since.elapsed() + expires_in > CLAIM_PATIENCE {
                    tracing::warn!(scenario = %record.id, holder, "lease is held elsewhere");
                    return Err(ServiceError::unavailable("this scenario", expires_in).into());
                }
                tokio::time::sleep(expires_in.max(Duration::from_millis(20))).await;
            }
        }
    }
}

/// For a log that was lost: numbers go on after the highest one that is stored.
async fn next_scene(deps: &GenerationDeps, record: &Scenario) -> Result<SceneId, ServiceError> {
    if record.scene_count == 0 {
        return Ok(SceneId::FIRST);
    }
    let scenes = deps.history.list_scenes(record.id).await?;
    Ok(scenes.last().map_or(SceneId::FIRST, |scene| scene.id.next()))
}
