//! The tables, described once as data, and their creation.
//!
//! Boot calls [`ensure_tables`]; where tables are made by infrastructure code instead, it finds them and does
//! nothing. A table that exists is never changed beyond switching on its time to live and its backups.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};

use super::failure::{self, store_error};
use crate::storage::StoreError;

/// The usual beginning of every table's name.
pub const PREFIX: &str = "whatif";

/// The partition key of every table; a string.
pub(super) const PK: &str = "pk";
/// The sort key of every table; a string.
pub(super) const SK: &str = "sk";
/// Seconds since the epoch after which an item may be deleted.
pub(super) const EXPIRES_AT: &str = "expires_at";

/// How long a table may take to become usable; AWS needs some ten seconds.
const CREATION_DEADLINE: Duration = Duration::from_secs(60);

/// One table, billed on demand.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub partition_key: &'static str,
    pub sort_key: &'static str,
    pub ttl_attribute: Option<&'static str>,
    /// Continuous backups, where the server has them.
    pub point_in_time_recovery: bool,
}

/// Scenarios and their scenes.
///
/// | pk             | sk            | item                                                    |
/// |----------------|---------------|---------------------------------------------------------|
/// | `U#<user>`     | `S#<id>`      | the owner's list: a pointer, newest last                |
/// | `S#<id>`       | `META`        | the scenario                                            |
/// | `S#<id>`       | `N#<n>`       | a scene, or its beginning                               |
/// | `S#<id>`       | `N#<n>#C#<k>` | the rest of a large scene                               |
/// | `PURGE`        | `<due>#<id>`  | a deleted scenario that waits for its items' deletion   |
pub const HISTORY: Table = Table {
    name: "history",
    partition_key: PK,
    sort_key: SK,
    ttl_attribute: Some(EXPIRES_AT),
    point_in_time_recovery: true,
};

pub const ALL: [&Table; 1] = [&HISTORY];

impl Table {
    pub fn full_name(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.name)
    }
}

/// Creates whatever is missing of [`ALL`]. Several processes may do it at once.
///
/// # Errors
/// [`StoreError::Unavailable`] or [`StoreError::Throttled`] if the server does not do it in time.
pub async fn ensure_tables(client: &Client, prefix: &str) -> Result<(), StoreError> {
    for table in ALL {
        let name = table.full_name(prefix);
        if status(client, &name).await?.is_none() {
            create(client, table, &name).await?;
        }
        tokio::time::timeout(CREATION_DEADLINE, active(client, &name)).await.map_err(|_| {
            StoreError::Unavailable(format!("table {name} did not become active in time"))
        })??;
        if let Some(attribute) = table.ttl_attribute {
            enable_ttl(client, &name, attribute).await?;
        }
        if table.point_in_time_recovery {
            enable_backups(client, &name).await?;
        }
    }
    Ok(())
}

async fn status(client: &Client, name: &str) -> Result<Option<TableStatus>, StoreError> {
    match client.describe_table().table_name(name).send().await {
        Ok(found) => Ok(found.table.and_then(|table| table.table_status)),
        Err(e) if e.code() == Some("ResourceNotFoundException") => Ok(None),
        Err(e) => Err(store_error(e)),
    }
}

async fn create(client: &Client, table: &Table, name: &str) -> Result<(), StoreError> {
    let mut request =
        client.create_table().table_name(name).billing_mode(BillingMode::PayPerRequest);
    for (attribute, kind) in
        [(table.partition_key, KeyType::Hash), (table.sort_key, KeyType::Range)]
    {
        request = request
            .attribute_definitions(
                AttributeDefinition::builder()
                    .attribute_name(attribute)
                    .attribute_type(ScalarAttributeType::S)
                    .build()
                    .map_err(failure::incomplete)?,
            )
            .key_schema(
                KeySchemaElement::builder()
                    .attribute_name(attribute)
                    .key_type(kind)
                    .build()
                    .map_err(failure::incomplete)?,
            );
    }
    match request.send().await {
        Ok(_) => Ok(()),
        // Another process was first.
        Err(e) if e.code() == Some("ResourceInUseException") => Ok(()),
        Err(e) => Err(store_error(e)),
    }
}

async fn active(client: &Client, name: &str) -> Result<(), StoreError> {
    let mut wait = Duration::from_millis(50);
    while status(client, name).await? != Some(TableStatus::Active) {
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
    Ok(())
}

async fn ttl_is_on(client: &Client, name: &str) -> Result<bool, StoreError> {
    let found =
        client.describe_time_to_live().table_name(name).send().await.map_err(store_error)?;
    let status = found.time_to_live_description.and_then(|ttl| ttl.time_to_live_status);
    Ok(matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)))
}

async fn enable_ttl(client: &Client, name: &str, attribute: &str) -> Result<(), StoreError> {
    if ttl_is_on(client, name).await? {
        return Ok(());
    }
    let specification = TimeToLiveSpecification::builder()
        .attribute_name(attribute)
        .enabled(true)
        .build()
        .map_err(failure::incomplete)?;
    let enabled = client
        .update_time_to_live()
        .table_name(name)
        .time_to_live_specification(specification)
        .send()
        .await;
    match enabled {
        Ok(_) => Ok(()),
        // A second change is refused: another process may have been first.
        Err(_) if ttl_is_on(client, name).await? => Ok(()),
        Err(e) => Err(store_error(e)),
    }
}

async fn enable_backups(client: &Client, name: &str) -> Result<(), StoreError> {
    let specification = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(true)
        .build()
        .map_err(failure::incomplete)?;
    let enabled = client
        .update_continuous_backups()
        .table_name(name)
        .point_in_time_recovery_specification(specification)
        .send()
        .await;
    match enabled {
        Ok(_) => {}
        // Not every compatible server has it.
        Err(e)
            if matches!(e.code(), Some("UnknownOperationException" | "UnsupportedOperation")) =>
        {
            tracing::debug!(table = name, "no point-in-time recovery here");
        }
        // Refused for a while after a table's creation, or for want of the right to it: serving matters more, and
        // the next start tries again.
        Err(e) => tracing::warn!(table = name, code = e.code(), "no point-in-time recovery"),
    }
    Ok(())
}
