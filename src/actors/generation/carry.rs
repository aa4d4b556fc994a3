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
use crate::storage::log::{Extent, Lease};

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
        overtaken: bool,
    ) -> Self {
        let less =
            |epoch: &str, head: u64| epoch == &*lease.extent.epoch && head > lease.extent.head;
        let forgot = overtaken || carry.is_some_and(|carry| less(&carry.epoch, carry.head))
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

/// Whether the open turn has ended otherwise than the log knows: its scene is stored, and is not what was logged.
pub async fn is_overtaken(
    deps: &GenerationDeps,
    record: &Scenario,
    lease: &Lease,
    checkpoint: Option<&Checkpoint>,
) -> Result<bool, ServiceError> {
    let Some(open) = checkpoint.and_then(|checkpoint| checkpoint.open.as_ref()) else {
        return Ok(false);
    };
    let Some(stored) = deps.history.find_scene(record.id, open.scene).await? else {
        return Ok(false);
    };
    let Extent { epoch, head, .. } = &lease.extent;
    let events = read_events(&*deps.log, record.id, epoch, open.from, *head).await;
    // Events that cannot be read are the turn's own matter.
    let draft = events.ok().and_then(|events| Draft::fold(&events));
    // A scene is stored after the log has said that nothing more will come.
    Ok(draft.is_some_and(|draft| {
        let whole = draft.text_done && draft.choices_done;
        !whole || draft.text != stored.text || draft.choices != stored.choices
    }))
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
        if open.scene < next {
            let stored = deps.history.find_scene(record.id, open.scene).await?;
            if stored.is_some_and(|stored| stored.turn != open.turn) {
                // Told by others while the log was lost, who could not know that the number was taken.
                open.scene = next;
                checkpoint.next_scene = next.next();
            }
        }
        open.from = writer.head() + 1;
        let mut draft = carry.draft.clone().unwrap_or_else(|| Draft::untold(open));
        draft.scene = open.scene;
        events = draft.retold();
        tracing::warn!(scenario = %record.id, turn = %open.turn, shown = draft.units, "turn carried over into a new log");
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
