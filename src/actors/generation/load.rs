//! How a session comes back: its scenario, its lease, its checkpoint, and the scene it stands at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::Instant;

use super::GenerationDeps;
use super::checkpoint::Checkpoint;
use super::session::{Current, Ready};
use super::writer::{LogWriter, in_time};
use crate::domain::ids::{ScenarioId, SceneId};
use crate::domain::scenario::Scenario;
use crate::error::ServiceError;
use crate::storage::log::{Claim, Lease, LogError, Origin};

/// Longest that a command waits for a lease that someone else holds.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at it: it may be given up long before it runs out.
const CLAIM_AGAIN: Duration = Duration::from_millis(250);

pub struct Loaded {
    pub ready: Ready,
    /// The place of the open turn, if there is one.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Why a session could not be loaded, and whether another try may help.
pub struct LoadError {
    pub error: ServiceError,
    pub retry: bool,
    /// Someone else owns the session.
    pub held: bool,
}

impl From<ServiceError> for LoadError {
    fn from(error: ServiceError) -> Self {
        Self { retry: error.code.retryable(), held: false, error }
    }
}

impl From<LogError> for LoadError {
    fn from(error: LogError) -> Self {
        tracing::warn!(%error, "log is not available");
        ServiceError::unavailable("event log", Duration::from_secs(1)).into()
    }
}

/// Loads a session; `patient` if a command waits for it and so for a lease that is held elsewhere.
pub async fn load(
    deps: &GenerationDeps,
    scenario: ScenarioId,
    patient: bool,
) -> Result<Loaded, LoadError> {
    if deps.turns.is_closed() {
        return Err(draining());
    }
    let Some(record) = deps.history.find(scenario).await? else {
        // Deleted: its log goes too, and with it any open turn.
        in_time(deps.log.delete(scenario)).await?;
        return Err(ServiceError::scenario_not_found().into());
    };
    let lease = claim(deps, &record, patient).await?;
    // From here on the lease is kept alive, and given back if the rest fails.
    let tail = deps.hub.tail(scenario);
    let writer = LogWriter::new(Arc::clone(&deps.log), tail, &deps.leases, scenario, &lease);
    match rest(deps, &record, &lease).await {
        Ok((checkpoint, current, permit)) => {
            writer.tail().set_open(checkpoint.open.as_ref().map(|open| open.from));
            let ready = Ready { scenario: Arc::new(record), writer, checkpoint, current };
            Ok(Loaded { ready, permit })
        }
        Err(error) => {
            writer.release().await;
            Err(error)
        }
    }
}

type Rest = (Checkpoint, Option<Current>, Option<OwnedSemaphorePermit>);

async fn rest(deps: &GenerationDeps, record: &Scenario, lease: &Lease) -> Result<Rest, LoadError> {
    let checkpoint = match &lease.checkpoint {
        Some(bytes) => Checkpoint::decode(bytes).map_err(|error| {
            tracing::error!(scenario = %record.id, %error, "checkpoint is unreadable");
            LoadError { error: ServiceError::internal(), retry: false, held: false }
        })?,
        None => Checkpoint::new(next_scene(deps, record).await?),
    };
    // Not from the record: another owner may have ended a turn between its reading and the claim.
    let record =
        deps.history.find(record.id).await?.ok_or_else(ServiceError::scenario_not_found)?;
    let current = match record.current_scene {
        None => None,
        Some(scene) => deps
            .history
            .find_scene(record.id, scene)
            .await?
            .map(|scene| Current { scene: scene.id, choices: scene.choices }),
    };
    let permit = match &checkpoint.open {
        None => None,
        // It was admitted once, so it is not refused; but another replica may have a place for it sooner.
        Some(_) => match Arc::clone(&deps.turns).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::NoPermits) => {
                return Err(ServiceError::unavailable("generation", Duration::from_secs(1)).into());
            }
            Err(TryAcquireError::Closed) => return Err(draining()),
        },
    };
    Ok((checkpoint, current, permit))
}

async fn claim(
    deps: &GenerationDeps,
    record: &Scenario,
    patient: bool,
) -> Result<Lease, LoadError> {
    let origin = if record.scene_count == 0 { Origin::New } else { Origin::Lost };
    let since = Instant::now();
    loop {
        let ttl = deps.config.lease_ttl;
        match in_time(deps.log.claim(record.id, &deps.replica, ttl, origin)).await? {
            Claim::Granted(lease) => return Ok(lease),
            Claim::Held { holder, expires_in } => {
                if !patient || since.elapsed() > CLAIM_PATIENCE {
                    tracing::info!(scenario = %record.id, holder, "lease is held elsewhere");
                    let error = ServiceError::unavailable("this scenario", expires_in);
                    return Err(LoadError { error, retry: true, held: true });
                }
                if deps.turns.is_closed() {
                    return Err(draining());
                }
                tokio::time::sleep(expires_in.clamp(Duration::from_millis(20), CLAIM_AGAIN)).await;
            }
        }
    }
}

/// What is handed over must not be taken up again by who handed it over.
fn draining() -> LoadError {
    let error = ServiceError::unavailable("this replica", Duration::from_secs(1));
    LoadError { error, retry: false, held: false }
}

/// For a log that was lost: numbers go on after the highest one that is stored.
async fn next_scene(deps: &GenerationDeps, record: &Scenario) -> Result<SceneId, ServiceError> {
    if record.scene_count == 0 {
        return Ok(SceneId::FIRST);
    }
    let scenes = deps.history.list_scenes(record.id).await?;
    Ok(scenes.last().map_or(SceneId::FIRST, |scene| scene.id.next()))
}
