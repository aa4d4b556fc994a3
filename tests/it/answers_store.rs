//! The contract of `AnswerStore`, called once per back end.

mod contract;

use whatif::storage::sqlite::idempotency::SqliteAnswerStore;

use super::support::postgres::TestDatabase;

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteAnswerStore::open(folder.path()).await.unwrap();
    contract::run(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_keeps_the_contract() {
    let database = TestDatabase::create().await;
    contract::run(&database.open().await.answers()).await;
}
