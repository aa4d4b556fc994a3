//! What a replica knows of a log beyond the log itself, and how it begins a log anew that the store has lost.
//!
//! A store may come back empty, or (after a fail-over of its own) without its newest events. Whoever claims the log
//! then finds less than was shown. Numbers that readers have seen must not be given twice, so a new epoch begins; a
//! turn that was being told is told on in it, from what its owner remembers.

use std::sync::Arc;

use super::GenerationDeps;
use super::checkpoint::{Checkpoint, OpenTurn};
use super::draft::Draft;
use super::load::{LoadError, next_scene};
use super::tail::Position;
use super::writer::{LogWriter, WriteError, in_time, read_events};
use crate::domain::scenario::Scenario;
use crate::error::ServiceError;
use crate::storage::log::Lease;

/// A session's knowledge of its log when it lost its pen.
#[derive(Debug)]
pub struct Carry {
    pub epoch: Arc<str>,
    pub head: u64,
    pub checkpoint: Checkpoint,
    /// The open turn as far as it was shown; absent if that is not known.
    pub draft: Option<Draft>,
}

/// What a claimed log is, measured by what is known of it.
pub enum Standing {
    /// All of it is there.
    Whole,
    /// It was lost, and nobody has written in the one that took its place.
    Lost,
    /// It has lost its newest events, and kept its epoch.
    RolledBack,
}

impl Standing {
    pub fn of(
        lease: &Lease,
        checkpoint: Option<&Checkpoint>,
        record: &Scenario,
        carry: Option<&Carry>,
        shown: Option<&Position>,
    ) -> Self {
        let less =
            |epoch: &str, head: u64| epoch == &*lease.extent.epoch && head > lease.extent.head;
        let forgot = carry.is_some_and(|carry| less(&carry.epoch, carry.head))
            || shown.is_some_and(|shown| less(&shown.epoch, shown.head))
            // The scene that it would tell next is stored already.
            || checkpoint.is_some_and(|checkpoint| checkpoint.next_scene.0 <= record.scene_count);
        match carry {
            _ if forgot => Standing::RolledBack,
            Some(carry) if carry.epoch != lease.extent.epoch && checkpoint.is_none() => {
                Standing::Lost
            }
            Some(carry) if carry.epoch != lease.extent.epoch => {
                tracing::error!(scenario = %record.id, "log was lost, and others went on in a new one");
                Standing::Whole
            }
            _ => Standing::Whole,
        }
    }
}

/// What a log that was rolled back still tells of its session; it is deleted afterwards.
pub async fn salvage(
    deps: &GenerationDeps,
    record: &Scenario,
    lease: &Lease,
    checkpoint: Option<Checkpoint>,
) -> Result<Carry, LoadError> {
    let (epoch, head) = (Arc::clone(&lease.extent.epoch), lease.extent.head);
    let mut checkpoint = match checkpoint {
        Some(checkpoint) => checkpoint,
        None => Checkpoint::new(next_scene(deps, record).await?),
    };
    let mut draft = None;
    if let Some(open) = &checkpoint.open {
        let told = deps.history.find_scene(record.id, open.scene).await?;
        if told.is_some() {
            // It has ended since, which is among what was lost.
            checkpoint.close(head);
        } else if open.from <= head {
            let events = read_events(&*deps.log, record.id, &epoch, open.from, head).await;
            draft = Draft::fold(&events.map_err(unavailable)?);
        }
    }
    Ok(Carry { epoch, head, checkpoint, draft })
}

/// Forgets a log that was rolled back, so that the next claim begins another epoch.
pub async fn discard(deps: &GenerationDeps, record: &Scenario) -> Result<(), LoadError> {
    tracing::error!(scenario = %record.id, "log was rolled back; it begins anew");
    Ok(in_time(deps.log.delete(record.id)).await?)
}

/// Writes into a new log what is carried over: answers to commands, and the open turn as far as it was told.
pub async fn begin_anew(
    deps: &GenerationDeps,
    record: &Scenario,
    writer: &mut LogWriter,
    carry: &Carry,
) -> Result<Checkpoint, LoadError> {
    let next = next_scene(deps, record).await?;
    let mut checkpoint = carry.checkpoint.begun_anew(next);
    let mut events = Vec::new();
    if let Some(open) = &mut checkpoint.open {
        open.from = writer.head() + 1;
        events = match &carry.draft {
            Some(draft) => draft.retold(),
            None => Draft::untold(open).retold(),
        };
        let shown = carry.draft.as_ref().map_or(0, |draft| draft.units);
        tracing::warn!(scenario = %record.id, turn = %open.turn, shown, "turn carried over into a new log");
    }
    metrics::counter!("whatif_logs_begun_anew_total").increment(1);
    writer.append(&events, Some(&checkpoint)).await.map_err(unavailable)?;
    Ok(checkpoint)
}

fn unavailable(error: WriteError) -> LoadError {
    tracing::warn!(%error, "log is not available");
    ServiceError::unavailable("event log", std::time::Duration::from_secs(1)).into()
}

impl Draft {
    /// A turn of which nothing is known but that it began.
    fn untold(open: &OpenTurn) -> Self {
        Self::new(
            open.turn,
            open.scene,
            open.parent,
            open.via.clone(),
            String::new(),
            String::new(),
        )
    }
}
