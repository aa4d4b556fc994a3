//! The contract of `UserStore`, called once per back end.

mod contract;

use whatif::storage::sqlite::user::SqliteUserStore;

use super::support::postgres::{Server, TestDatabase};

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteUserStore::open(folder.path()).await.unwrap();
    contract::run(&store).await;
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let database = TestDatabase::create().await;
    contract::run(&database.open().await.users()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgres_with_a_replica_keeps_the_contract() {
    let primary = Server::start().await;
    let replica = primary.replica().await;
    let store = primary.open_with(|config| config.read_url = Some(replica.url().into())).await;
    contract::run(&store.users()).await;
}
