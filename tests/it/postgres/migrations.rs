use futures::future::join_all;
use sqlx::Connection;
use whatif::storage::StoreError;
use whatif::storage::postgres::Postgres;
use whatif::storage::user::UserStore;

use super::super::support::postgres::{TestDatabase, config, connect, run_sql};
use super::user;

async fn applied(database: &TestDatabase) -> Vec<i64> {
    let mut connection = connect(database.url()).await;
    let versions = sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version");
    let versions = versions.fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    versions
}

/// The versions that stand in the folder, and some more.
fn known_and(more: &[i64]) -> Vec<i64> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
    let version = |name: std::ffi::OsString| name.to_str().unwrap()[..4].parse().unwrap();
    let mut versions: Vec<i64> = names.map(version).chain(more.iter().copied()).collect();
    versions.sort_unstable();
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_that_start_at_once_each_finds_the_newest_schema() {
    let database = TestDatabase::create().await;
    let opened = join_all((0..8).map(|_| async { Postgres::open(&config(database.url())).await }));
    for postgres in opened.await {
        postgres.unwrap().users().create_user(&user(), None).await.unwrap();
    }
    assert_eq!(applied(&database).await, known_and(&[]), "each once");
}

/// A new release has migrated, and this program is started again or for the first time beside it.
#[tokio::test]
async fn a_database_that_is_further_than_this_program_is_used() {
    let database = TestDatabase::create().await;
    database.open().await.close().await;
    run_sql(
        database.url(),
        "ALTER TABLE users ADD COLUMN locale text;
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, '\\x00', 0)",
    )
    .await;
    let users = database.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    assert_eq!(users.find_user(ada.id).await.unwrap(), Some(ada));
    assert_eq!(applied(&database).await, known_and(&[9999]));
}

/// This program's own new migration, on a database that already has one of a still newer program.
#[tokio::test]
async fn what_is_missing_is_made_up_for_beside_what_is_unknown() {
    let database = TestDatabase::create().await;
    database.open().await.close().await;
    run_sql(
        database.url(),
        "DROP TABLE answers;
         DELETE FROM _sqlx_migrations WHERE version = 2;
         INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, '\\x00', 0)",
    )
    .await;
    database.open().await;
    assert_eq!(applied(&database).await, known_and(&[9999]));
}

#[tokio::test]
async fn a_migration_that_was_changed_afterwards_is_refused() {
    let database = TestDatabase::create().await;
    database.open().await.close().await;
    run_sql(database.url(), "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1")
        .await;
    let error = Postgres::open(&config(database.url())).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
}

/// Whoever migrates needs rights that whoever serves does not.
#[tokio::test]
async fn a_role_that_may_change_no_schema_serves_once_that_is_up_to_date() {
    let database = TestDatabase::create().await;
    database.create_role("").await;
    let config = config(&database.url_of_role());
    let refused = Postgres::open(&config).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused:?}");
    database.open().await.close().await;
    database.let_role_write().await;
    let postgres = Postgres::open(&config).await.unwrap();
    postgres.users().create_user(&user(), None).await.unwrap();
}

/// A long transaction holds a table that the migration has to change.
#[tokio::test]
async fn a_migration_waits_for_a_table_in_use_and_then_goes_on() {
    let database = TestDatabase::create().await;
    run_sql(database.url(), "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL)").await;
    let mut other = connect(database.url()).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE _sqlx_migrations IN EXCLUSIVE MODE")
        .execute(&mut other)
        .await
        .unwrap();
    let impatient = whatif::config::Database {
        timeout: std::time::Duration::from_secs(5),
        ..config(database.url())
    };
    let error = Postgres::open(&impatient).await.unwrap_err();
    assert!(error.to_string().contains("locked"), "{error}");
    let opened = async { Postgres::open(&config(database.url())).await.unwrap() };
    let release = async { sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap() };
    futures::join!(opened, release);
    assert_eq!(applied(&database).await, known_and(&[]));
}
