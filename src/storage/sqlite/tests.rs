//! What only files can do wrong. The contracts are in `tests/it/accounts_store.rs` and `answers_store.rs`.

use std::fs;

use super::user::SqliteUserStore;
use super::*;
use crate::domain::ids::UserId;
use crate::domain::user::{EmailKey, Role, User};
use crate::storage::user::{Credential, PasswordScheme, UserStore};

fn ada() -> User {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    User {
        id: UserId(Uuid::from_u128(1)),
        email: "ada@example.org".into(),
        display_name: "Ada".into(),
        role: Role::Reader,
        suspended_at: None,
        created_at: now,
        updated_at: now,
    }
}

#[tokio::test]
async fn what_is_stored_is_there_after_a_restart_and_for_a_second_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = SqliteUserStore::open(folder.path()).await.unwrap();
    let second = SqliteUserStore::open(folder.path()).await.unwrap();
    first.create_user(&ada(), None).await.unwrap();
    assert_eq!(second.find_user(ada().id).await.unwrap(), Some(ada()));
    first.close().await;
    second.close().await;
    let again = SqliteUserStore::open(folder.path()).await.unwrap();
    assert_eq!(again.find_user(ada().id).await.unwrap(), Some(ada()));
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteUserStore::open(folder.path()).await.unwrap();
    store.create_user(&ada(), None).await.unwrap();
    let mut files = 0;
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        files += 1;
    }
    assert!(files >= 2, "the journal too");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users.db"), "not a database at all, but long enough".repeat(99))
        .unwrap();
    let error = SqliteUserStore::open(folder.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("users.db") && error.contains("not a SQLite database"), "{error}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    fs::write(&file, "").unwrap();
    let error = SqliteUserStore::open(&file.join("data")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("users.db"), "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteUserStore::open(folder.path()).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, x'00', 0)",
    )
    .execute(&store.database().pool)
    .await
    .unwrap();
    store.close().await;
    let error = SqliteUserStore::open(folder.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
}

#[tokio::test]
async fn a_lock_that_stays_is_unavailable_and_one_that_goes_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteUserStore::open(folder.path()).await.unwrap();
    let other = SqliteUserStore::open(folder.path()).await.unwrap();
    let lock = other.database().pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = store.create_user(&ada(), None).await.unwrap_err();
    assert!(error.is_dependency_failure(), "{error:?}");
    assert!(error.to_string().contains("locked"), "{error}");
    assert_eq!(store.find_user(ada().id).await.unwrap(), None, "readers go on");
    let user = ada();
    let waiting = store.create_user(&user, None);
    let release = async { lock.rollback().await.unwrap() };
    let (outcome, ()) = futures::join!(waiting, release);
    outcome.unwrap();
}

#[tokio::test]
async fn a_record_of_a_later_version_is_corrupt_and_not_misread() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteUserStore::open(folder.path()).await.unwrap();
    let credential = Credential { scheme: PasswordScheme::Argon2id, hash: "h".into() };
    store.create_user(&ada(), Some(&credential)).await.unwrap();
    for (what, change) in [
        ("scheme", "UPDATE credentials SET scheme = 99"),
        ("role", "UPDATE users SET role = 'owner'"),
    ] {
        sqlx::query(change).execute(&store.database().pool).await.unwrap();
        let error = store.find_account(&EmailKey::new(&ada().email)).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{what}: {error:?}");
        assert!(!error.is_dependency_failure());
    }
}

#[tokio::test]
async fn a_closed_store_fails_and_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteUserStore::open(folder.path()).await.unwrap();
    store.close().await;
    assert!(matches!(store.probe().await, Err(StoreError::Unavailable(_))));
}
