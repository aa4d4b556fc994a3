//! What a replica depends on, as data for those who look at it.

use std::sync::Arc;

use futures::FutureExt;
use uuid::Uuid;

use super::stores::{Accounts, Stores};
use crate::actors::circuit::State;
use crate::actors::dependencies::Dependency;
use crate::actors::limits::LimitsHandle;
use crate::actors::status::ServiceStatus;
use crate::config::{Config, DynamoEngine};
use crate::domain::ids::ScenarioId;
use crate::storage::scenario::ScenarioStore;

/// Each store that the configuration asks for, with the circuit of those who call it.
pub(super) fn dependencies(
    config: &Config,
    stores: &Stores,
    services: &[Arc<ServiceStatus>],
    limits: &LimitsHandle,
) -> Vec<Dependency> {
    let mut dependencies = Vec::new();
    if let Some(redis) = stores.redis.clone() {
        let limits = limits.clone();
        dependencies.push(Dependency {
            name: "redis",
            kind: if redis.is_cluster() { "cluster" } else { "server" },
            probe: Box::new(move || {
                let redis = redis.clone();
                async move { redis.ping().await.map_err(|error| error.to_string()) }.boxed()
            }),
            circuit: Some(Box::new(move || limits.circuit())),
        });
    }
    let users = stores.accounts.users();
    dependencies.push(Dependency {
        name: match &stores.accounts {
            Accounts::Sqlite(..) => "sqlite",
            Accounts::Postgres(_) => "postgres",
        },
        kind: match &stores.accounts {
            Accounts::Sqlite(..) => "embedded",
            Accounts::Postgres(_) => "server",
        },
        probe: Box::new(move || {
            let users = Arc::clone(&users);
            async move { users.probe().await.map_err(|error| error.to_string()) }.boxed()
        }),
        circuit: circuit_of(services, "user.database"),
    });
    let scenarios = Arc::new(stores.dynamo.scenarios());
    dependencies.push(Dependency {
        name: "dynamodb",
        kind: match config.dynamodb.engine() {
            DynamoEngine::Embedded => "embedded",
            DynamoEngine::Server { .. } => "server",
            DynamoEngine::Aws { .. } => "aws",
        },
        probe: Box::new(move || {
            let scenarios = Arc::clone(&scenarios);
            async move { scenarios.probe().await.map_err(|error| error.to_string()) }.boxed()
        }),
        circuit: circuit_of(services, "history.store"),
    });
    let (kind, log) = (stores.log.kind(), stores.log.store());
    dependencies.push(Dependency {
        name: "event_log",
        kind,
        probe: Box::new(move || {
            let log = Arc::clone(&log);
            // Nobody's log: whoever can say that there is none can be read.
            async move {
                let looked = log.read(ScenarioId(Uuid::nil()), 0, 1).await;
                looked.map(drop).map_err(|error| error.to_string())
            }
            .boxed()
        }),
        circuit: None,
    });
    dependencies
}

fn circuit_of(
    services: &[Arc<ServiceStatus>],
    pool: &str,
) -> Option<Box<dyn Fn() -> Option<State> + Send + Sync>> {
    let mut pools = services.iter().flat_map(|service| &service.pools);
    let pool = Arc::clone(pools.find(|known| known.name() == pool)?);
    Some(Box::new(move || pool.circuit()))
}
