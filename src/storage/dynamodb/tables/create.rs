//! Making the tables of a deployment, and finding out whether they are as this version needs them.
//!
//! [`ensure`] may run as often as one likes and in several processes at once: whoever comes second finds the work done.
//! A table that exists is never changed beyond switching on its time to live and its backups.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    PointInTimeRecoverySpecification, PointInTimeRecoveryStatus, Projection, ProjectionType,
    ScalarAttributeType, TableDescription, TableStatus, Tag, TimeToLiveSpecification,
    TimeToLiveStatus,
};

use super::compare::differences;
use super::{ALL, Deployment, Keys, Table};
use crate::storage::StoreError;
use crate::storage::dynamodb::failure::{incomplete, store_error};

/// How long a table may take to become usable; AWS needs some ten seconds.
const CREATION_DEADLINE: Duration = Duration::from_secs(60);

/// A table that was just made may take some seconds until it takes backups.
const BACKUP_TRIES: u32 = 10;
const BACKUP_WAIT: Duration = Duration::from_secs(2);

/// Why the tables are not as they have to be. One line for the person who starts the process.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    #[error("table {0} is missing: run `whatif migrate`")]
    Missing(String),
    #[error("table {name} is not the one that this version needs: {differences}")]
    Different { name: String, differences: String },
    #[error("table {name} did not become active within {} s", CREATION_DEADLINE.as_secs())]
    NotActive { name: String },
    #[error("table {name}: {cause}")]
    Store { name: String, cause: StoreError },
}

/// Makes what is missing, waits until it can be used, and checks the rest. Returns the names.
pub(in super::super) async fn ensure(
    client: &Client,
    deployment: &Deployment,
) -> Result<Vec<String>, TablesError> {
    let mut names = Vec::new();
    for table in ALL {
        let name = deployment.table_name(table);
        let made = ensure_table(client, deployment, table, &name).await;
        made.map_err(|problem| problem.of(&name))?;
        names.push(name);
    }
    Ok(names)
}

/// Checks without changing anything.
pub(in super::super) async fn check(
    client: &Client,
    deployment: &Deployment,
) -> Result<(), TablesError> {
    for table in ALL {
        let name = deployment.table_name(table);
        let found = describe(client, &name).await;
        match found.map_err(|cause| TablesError::Store { name: name.clone(), cause })? {
            None => return Err(TablesError::Missing(name)),
            Some(found) => compare(table, &found).map_err(|problem| problem.of(&name))?,
        }
    }
    Ok(())
}

/// A [`TablesError`] that does not know yet which table it is about.
enum Problem {
    Store(StoreError),
    Different(String),
    NotActive,
}

impl Problem {
    fn of(self, name: &str) -> TablesError {
        let name = name.to_owned();
        match self {
            Problem::Store(cause) => TablesError::Store { name, cause },
            Problem::Different(differences) => TablesError::Different { name, differences },
            Problem::NotActive => TablesError::NotActive { name },
        }
    }
}

impl From<StoreError> for Problem {
    fn from(cause: StoreError) -> Self {
        Problem::Store(cause)
    }
}

async fn ensure_table(
    client: &Client,
    deployment: &Deployment,
    table: &Table,
    name: &str,
) -> Result<(), Problem> {
    if describe(client, name).await?.is_none() {
        create(client, deployment, table, name).await?;
        tracing::info!(table = name, "table created");
    }
    let found = tokio::time::timeout(CREATION_DEADLINE, active(client, name)).await;
    compare(table, &found.map_err(|_| Problem::NotActive)??)?;
    if let Some(attribute) = table.ttl_attribute {
        enable_ttl(client, name, attribute).await?;
    }
    if table.point_in_time_recovery {
        enable_backups(client, name).await;
    }
    Ok(())
}

fn compare(table: &Table, found: &TableDescription) -> Result<(), Problem> {
    let differences = differences(table, found);
    if differences.is_empty() { Ok(()) } else { Err(Problem::Different(differences.join("; "))) }
}

async fn describe(client: &Client, name: &str) -> Result<Option<TableDescription>, StoreError> {
    match client.describe_table().table_name(name).send().await {
        Ok(found) => Ok(found.table),
        Err(e) if e.code() == Some("ResourceNotFoundException") => Ok(None),
        Err(e) => Err(store_error(e)),
    }
}

async fn create(
    client: &Client,
    deployment: &Deployment,
    table: &Table,
    name: &str,
) -> Result<(), StoreError> {
    let mut request = client
        .create_table()
        .table_name(name)
        .billing_mode(BillingMode::PayPerRequest)
        .deletion_protection_enabled(deployment.is_protected())
        .set_key_schema(Some(key_schema(table.keys)?));
    for attribute in table.attributes() {
        let definition = AttributeDefinition::builder()
            .attribute_name(attribute.name)
            .attribute_type(ScalarAttributeType::from(attribute.kind.letter()));
        request = request.attribute_definitions(definition.build().map_err(incomplete)?);
    }
    for index in table.indexes {
        let projection = ProjectionType::from(index.projection());
        let index = GlobalSecondaryIndex::builder()
            .index_name(index.name)
            .set_key_schema(Some(key_schema(index.keys)?))
            .projection(Projection::builder().projection_type(projection).build());
        request = request.global_secondary_indexes(index.build().map_err(incomplete)?);
    }
    for (key, value) in deployment.tags(table) {
        request = request.tags(Tag::builder().key(key).value(value).build().map_err(incomplete)?);
    }
    match request.send().await {
        Ok(_) => Ok(()),
        // Another process was first.
        Err(e) if e.code() == Some("ResourceInUseException") => Ok(()),
        Err(e) => Err(store_error(e)),
    }
}

fn key_schema(keys: Keys) -> Result<Vec<KeySchemaElement>, StoreError> {
    let element = |(role, attribute): (&str, super::Attribute)| {
        KeySchemaElement::builder()
            .attribute_name(attribute.name)
            .key_type(KeyType::from(role))
            .build()
            .map_err(incomplete)
    };
    keys.roles().map(element).collect()
}

async fn active(client: &Client, name: &str) -> Result<TableDescription, StoreError> {
    let mut wait = Duration::from_millis(50);
    loop {
        // A table that was just made may not be found for a moment.
        if let Some(found) = describe(client, name).await?
            && matches!(found.table_status(), Some(TableStatus::Active | TableStatus::Updating))
        {
            return Ok(found);
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
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
        .map_err(incomplete)?;
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

/// Serving matters more than this: what keeps it from being switched on is said, and the next run tries again.
async fn enable_backups(client: &Client, name: &str) {
    let mut tries = BACKUP_TRIES;
    loop {
        let code = match try_enable_backups(client, name).await {
            Ok(()) => return,
            Err(code) => code,
        };
        match code.as_deref() {
            // Not every compatible server has it.
            Some("UnknownOperationException" | "UnsupportedOperation") => {
                tracing::debug!(table = name, "no point-in-time recovery here");
                return;
            }
            // Refused for a moment after a table's creation.
            Some("ContinuousBackupsUnavailableException") if tries > 1 => {
                tries -= 1;
                tokio::time::sleep(BACKUP_WAIT).await;
            }
            // For want of the right to it, for example.
            code => {
                tracing::warn!(table = name, code, "no point-in-time recovery");
                return;
            }
        }
    }
}

async fn try_enable_backups(client: &Client, name: &str) -> Result<(), Option<String>> {
    let found = client.describe_continuous_backups().table_name(name).send().await;
    let found = found.map_err(|e| e.code().map(str::to_owned))?;
    let is_on = found
        .continuous_backups_description()
        .and_then(|backups| backups.point_in_time_recovery_description())
        .and_then(|recovery| recovery.point_in_time_recovery_status())
        == Some(&PointInTimeRecoveryStatus::Enabled);
    if is_on {
        return Ok(());
    }
    let specification = PointInTimeRecoverySpecification::builder()
        .point_in_time_recovery_enabled(true)
        .build()
        .map_err(|e| Some(e.to_string()))?;
    client
        .update_continuous_backups()
        .table_name(name)
        .point_in_time_recovery_specification(specification)
        .send()
        .await
        .map(drop)
        .map_err(|e| e.code().map(str::to_owned))
}
