//! DynamoDB repositories on the AWS SDK: against AWS, a compatible server, or the engine in this process.
//!
//! [`Dynamo`] is made once by boot, from the configuration, and handed to the repositories, which never learn what
//! answers them: only `connect` knows the three, and only `engine` the one in this process, as something that answers
//! the SDK's HTTP requests.

mod access;
mod connect;
mod engine;
mod failure;
mod item;
mod path;
mod purge;
mod row;
mod scenario;
pub mod tables;
#[cfg(test)]
mod tests;

use std::path::Path;

use aws_sdk_dynamodb::Client;

use self::access::Access;
use self::engine::Engine;
use self::tables::{Deployment, TablesError};
use super::StoreError;
use crate::config::{AppEnv, DynamoDb, DynamoEngine};

pub use self::scenario::DynamoScenarios;

/// A connection to DynamoDB or to something that speaks its API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dynamo {
    client: Client,
    deployment: Deployment,
    contended_attempts: u32,
    engine: Option<Engine>,
}

impl Dynamo {
    /// What `config` asks for; `file` is the embedded engine's, made if missing; its folder must exist. Servers are
    /// not called yet.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened, written or locked, or AWS is asked for and there are
    /// no credentials; [`StoreError::Corrupt`] if the file is no database, a damaged one, or one of a later version.
    pub async fn open(config: &DynamoDb, env: AppEnv, file: &Path) -> Result<Self, StoreError> {
        let (builder, engine) = match config.engine() {
            DynamoEngine::Embedded => {
                let engine = Engine::open(file).await?;
                (connect::to_engine(engine.clone()), Some(engine))
            }
            DynamoEngine::Server { endpoint, region } => {
                (connect::to_server(config, endpoint, region), None)
            }
            DynamoEngine::Aws { region, endpoint } => {
                (connect::to_aws(config, region, endpoint).await?, None)
            }
        };
        let client = connect::client(config, builder);
        Ok(Self { engine, ..Self::with_client(config, env, client) })
    }

    /// The engine in this process on `file`, everything else as by default.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn embedded(file: &Path) -> Result<Self, StoreError> {
        Self::open(&DynamoDb::default(), AppEnv::Development, file).await
    }

    fn with_client(config: &DynamoDb, env: AppEnv, client: Client) -> Self {
        Self {
            client,
            deployment: Deployment::new(&config.table_prefix, env),
            contended_attempts: config.max_contended_attempts,
            engine: None,
        }
    }

    /// Makes the tables that are missing, checks the others, and returns their names. Safe to run again, and from
    /// several processes at once.
    ///
    /// # Errors
    /// [`TablesError`]: a table is another one than this version needs, or the server does not do it.
    pub async fn ensure_tables(&self) -> Result<Vec<String>, TablesError> {
        tables::ensure(&self.client, &self.deployment).await
    }

    /// Checks that the tables are there and as this version needs them.
    ///
    /// # Errors
    /// [`TablesError`]
    pub async fn check_tables(&self) -> Result<(), TablesError> {
        tables::check(&self.client, &self.deployment).await
    }

    /// The repository of scenarios and scenes.
    pub fn scenarios(&self) -> DynamoScenarios {
        DynamoScenarios::new(self.access(&tables::HISTORY))
    }

    fn access(&self, table: &tables::Table) -> Access {
        Access {
            client: self.client.clone(),
            table: self.deployment.table_name(table),
            contended_attempts: self.contended_attempts,
        }
    }

    /// Deletes the items whose time to live has run out and returns how many: to be called from time to time.
    /// Servers do that by themselves; only the embedded engine has to be told.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the engine's file fails.
    pub async fn sweep_expired(&self) -> Result<usize, StoreError> {
        match &self.engine {
            Some(engine) => engine.sweep_expired().await,
            None => Ok(0),
        }
    }
}
