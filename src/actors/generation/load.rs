//! How a session comes back: its scenario, its lease, its checkpoint, and the scene it stands at.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::sleep;

use super::GenerationDeps;
use super::carry::{self, Carry, Standing};
use super::checkpoint::Checkpoint;
use super::session::{Current, Elsewhere, Ready};
use super::writer::{LogWriter, in_time};
use crate::domain::ids::{ScenarioId, SceneId};
use crate::domain::scenario::Scenario;
use crate::error::ServiceError;
use crate::storage::log::{Claim, Lease, LogError, Origin};

/// How often, and how many times, a claim is tried that the store does not grant yet because it has lost its logs.
pub const SETTLING_LOOK: Duration = Duration::from_millis(250);
pub const SETTLING_WAITS: u32 = 20;

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
    pub held: Option<Elsewhere>,
    /// All that is left of a log that was given up before another one could be begun.
    pub carry: Option<Arc<Carry>>,
}

impl LoadError {
    fn new(error: ServiceError, retry: bool) -> Self {
        Self { error, retry, held: None, carry: None }
    }
}

impl From<ServiceError> for LoadError {
    fn from(error: ServiceError) -> Self {
        let retry = error.code.retryable();
        Self::new(error, retry)
    }
}

impl From<LogError> for LoadError {
    fn from(error: LogError) -> Self {
        tracing::warn!(%error, "log is not available");
        ServiceError::unavailable("event log", Duration::from_secs(1)).into()
    }
}

/// Loads a session that lost its pen with `carry`, if it had one. A log that is not there is begun at once if the
/// scenario is new; else it is lost.
pub async fn load(
    deps: &GenerationDeps,
    scenario: ScenarioId,
    is_new: bool,
    carry: Option<Arc<Carry>>,
) -> Result<Loaded, LoadError> {
    if deps.turns.is_closed() {
        return Err(draining());
    }
    let Some(record) = deps.history.find(scenario).await? else {
        // Deleted: its log goes too, and with it any open turn.
        in_time(deps.log.delete(scenario)).await?;
        return Err(ServiceError::scenario_not_found().into());
    };
    let origin = match &carry {
        Some(_) => Origin::Carried,
        None if is_new && record.scene_count == 0 => Origin::New,
        None => Origin::Lost,
    };
    let lease = claim(deps, scenario, origin).await?;
    let checkpoint = lease.checkpoint.as_ref().map(|bytes| Checkpoint::decode(bytes)).transpose();
    let checkpoint = match checkpoint {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            tracing::error!(%scenario, %error, "checkpoint is unreadable");
            release(deps, scenario, &lease).await;
            return Err(LoadError::new(ServiceError::internal(), false));
        }
    };
    let shown = deps.hub.tail(scenario).position();
    let overtaken = carry::is_overtaken(deps, &record, &lease, checkpoint.as_ref()).await;
    let overtaken = match overtaken {
        Ok(overtaken) => overtaken,
        Err(error) => {
            release(deps, scenario, &lease).await;
            return Err(error.into());
        }
    };
    let (checked, known) = (checkpoint.as_ref(), carry.as_deref());
    match Standing::of(&lease, checked, &record, known, shown.as_ref(), overtaken) {
        Standing::Whole => open(deps, record, &lease, checkpoint, None).await,
        Standing::Lost => open(deps, record, &lease, None, carry).await,
        Standing::RolledBack => {
            let carry = match carry.filter(|carry| carry.epoch == lease.extent.epoch) {
                Some(carry) => carry,
                None => match carry::salvage(deps, &record, &lease, checkpoint).await {
                    Ok(salvaged) => Arc::new(salvaged),
                    Err(error) => {
                        release(deps, scenario, &lease).await;
                        return Err(error);
                    }
                },
            };
            let begun = async {
                carry::discard(deps, &record).await?;
                let lease = claim(deps, scenario, Origin::Carried).await?;
                open(deps, record, &lease, None, Some(Arc::clone(&carry))).await
            };
            begun.await.map_err(|error| LoadError { carry: Some(carry), ..error })
        }
    }
}

/// Takes the pen of a claimed log. From here on the lease is kept alive, and given back if the rest fails.
async fn open(
    deps: &GenerationDeps,
    record: Scenario,
    lease: &Lease,
    checkpoint: Option<Checkpoint>,
    carry: Option<Arc<Carry>>,
) -> Result<Loaded, LoadError> {
    let tail = deps.hub.tail(record.id);
    let log = Arc::clone(&deps.log);
    let mut writer = LogWriter::new(log, &tail, &deps.leases, record.id, lease);
    match rest(deps, &record, &mut writer, checkpoint, carry.as_deref()).await {
        Ok((checkpoint, current, permit)) => {
            writer.tail().set_open(checkpoint.open.as_ref().map(|open| open.from));
            let scenario = Arc::new(record);
            let ready = Ready { scenario, writer, checkpoint, current, ahead: None };
            Ok(Loaded { ready, permit })
        }
        Err(error) => {
            writer.release().await;
            Err(error)
        }
    }
}

type Rest = (Checkpoint, Option<Current>, Option<OwnedSemaphorePermit>);

async fn rest(
    deps: &GenerationDeps,
    record: &Scenario,
    writer: &mut LogWriter,
    checkpoint: Option<Checkpoint>,
    carry: Option<&Carry>,
) -> Result<Rest, LoadError> {
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
    let open = match carry {
        Some(carry) => carry.checkpoint.open.is_some(),
        None => checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.open.is_some()),
    };
    let permit = match open {
        false => None,
        // It was admitted once, so it is not refused; but another replica may have a place for it sooner.
        true => match Arc::clone(&deps.turns).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(TryAcquireError::NoPermits) => {
                return Err(ServiceError::unavailable("generation", Duration::from_secs(1)).into());
            }
            Err(TryAcquireError::Closed) => return Err(draining()),
        },
    };
    let checkpoint = match (carry, checkpoint) {
        (Some(carry), _) => carry::begin_anew(deps, &record, writer, carry).await?,
        (None, Some(checkpoint)) => checkpoint,
        (None, None) => Checkpoint::new(next_scene(deps, &record).await?),
    };
    Ok((checkpoint, current, permit))
}

async fn claim(
    deps: &GenerationDeps,
    scenario: ScenarioId,
    origin: Origin,
) -> Result<Lease, LoadError> {
    let ttl = deps.config.lease_ttl;
    let mut waits = 0;
    loop {
        let claimed = in_time(deps.log.claim(scenario, &deps.replica, ttl, origin)).await?;
        return match claimed {
            Claim::Granted(lease) => Ok(lease),
            Claim::Unsettled { wait } if waits < SETTLING_WAITS => {
                // Meanwhile who remembers the log begins it; else it is ours to begin.
                waits += 1;
                sleep(wait.min(SETTLING_LOOK)).await;
                continue;
            }
            Claim::Unsettled { wait } => Err(ServiceError::unavailable("event log", wait).into()),
            Claim::Held { holder, expires_in } => {
                tracing::debug!(%scenario, holder, "lease is held elsewhere");
                let error = ServiceError::unavailable("this scenario", expires_in);
                let held = Some(Elsewhere { holder, expires_in });
                Err(LoadError { held, ..LoadError::new(error, true) })
            }
        };
    }
}

async fn release(deps: &GenerationDeps, scenario: ScenarioId, lease: &Lease) {
    if let Err(error) = in_time(deps.log.release(scenario, lease.fence)).await {
        tracing::warn!(%scenario, %error, "lease was not released");
    }
}

/// What is handed over must not be taken up again by who handed it over.
fn draining() -> LoadError {
    let error = ServiceError::unavailable("this replica", Duration::from_secs(1));
    LoadError::new(error, false)
}

/// For a log that was lost: numbers go on after the highest one that is stored.
pub async fn next_scene(deps: &GenerationDeps, record: &Scenario) -> Result<SceneId, ServiceError> {
    if record.scene_count == 0 {
        return Ok(SceneId::FIRST);
    }
    let scenes = deps.history.list_scenes(record.id).await?;
    Ok(scenes.last().map_or(SceneId::FIRST, |scene| scene.id.next()))
}
