//! The end of soft-deleted scenarios: their items go for good once their time has passed.
//!
//! A time to live can only be set on items one by one, and a scenario may have ten thousand. So a deletion leaves one
//! entry in the `PURGE` partition, and whoever calls [`run`] from time to time deletes what is due. Doing it twice, or
//! on two replicas at once, does no harm.

use jiff::{SignedDuration, Timestamp};

use super::access::Access;
use super::item::{Item, key, text};
use super::row;
use super::tables::{PK, SK};
use crate::domain::ids::ScenarioId;
use crate::storage::StoreError;

/// From a scenario's deletion to the deletion of its items.
const GRACE: SignedDuration = SignedDuration::from_hours(30 * 24);
const PARTITION: &str = "PURGE";
/// Scenarios of one run.
const AT_ONCE: i32 = 100;

/// When the items of a scenario deleted at `now` are to go, in seconds since the epoch.
pub(super) fn due(now: Timestamp) -> i64 {
    now.as_second().saturating_add(GRACE.as_secs())
}

/// The entry that remembers a deletion.
pub(super) fn entry(due: i64, id: ScenarioId) -> Item {
    key(PARTITION, format!("{due:012}#{id}"))
}

/// Deletes the items of the scenarios due at `now`, oldest first; returns how many scenarios. A full run (100) means
/// that there may be more.
pub(super) async fn run(history: &Access, now: Timestamp) -> Result<usize, StoreError> {
    let mut entries = Vec::new();
    let mut after = None;
    // A page may be empty and not the last one.
    while entries.is_empty() {
        let due = history
            .query()
            .limit(AT_ONCE)
            .key_condition_expression("pk = :pk AND sk < :now")
            .expression_attribute_values(":pk", text(PARTITION))
            .expression_attribute_values(":now", text(format!("{:012}", now.as_second())));
        (entries, after) = history.page(due, after).await?;
        if after.is_none() {
            break;
        }
    }
    for entry in &entries {
        let sk = row::sort_key(entry)?;
        let id = sk
            .split_once('#')
            .and_then(|(_, id)| id.parse().ok())
            .ok_or_else(|| StoreError::Corrupt(format!("a purge entry {sk}")))?;
        delete_items(history, id).await?;
        // Last, so that a run that fails half-way is taken up again.
        history.batch_delete(vec![key(PARTITION, sk)]).await?;
    }
    Ok(entries.len())
}

async fn delete_items(history: &Access, id: ScenarioId) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let keys = history
            .query()
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(row::scenario_pk(id)))
            .projection_expression(format!("{PK}, {SK}"));
        let (keys, more) = history.page(keys, after).await?;
        history.batch_delete(keys).await?;
        after = more;
        if after.is_none() {
            return Ok(());
        }
    }
}
