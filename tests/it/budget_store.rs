//! The contract of `BudgetStore`, called once per back end.

mod contract;

use std::sync::Arc;

use whatif::storage::sqlite::budget::SqliteBudgetStore;

use super::support::postgres::TestDatabase;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteBudgetStore::open(folder.path()).await.unwrap();
    contract::run(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_the_contract() {
    let database = TestDatabase::create().await;
    contract::run(Arc::new(database.open().await.budget())).await;
}
