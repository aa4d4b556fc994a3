use std::time::Duration;

use jiff::Timestamp;
use sqlx::Connection;
use tokio::time::{Instant, timeout};
use whatif::domain::ids::UserId;
use whatif::storage::StoreError;
use whatif::storage::postgres::Postgres;
use whatif::storage::user::UserStore;

use super::super::support::postgres::{Name, Server, Stop, TestDatabase, config, connect, run_sql};
use super::{PATIENCE, eventually, user};

/// An operation ends within this, whatever the server does.
const LIMIT: Duration = Duration::from_secs(6);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_is_unavailable_and_one_that_comes_back_is_used_again() {
    let mut server = Server::start().await;
    let users = server.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    for how in [Stop::Fast, Stop::Kill] {
        server.stop(how).await;
        for _ in 0..2 {
            let begun = Instant::now();
            let error = users.find_user(ada.id).await.unwrap_err();
            assert!(error.is_dependency_failure(), "{how:?}: {error:?}");
            assert!(users.probe().await.is_err());
            assert!(begun.elapsed() < LIMIT * 2, "{how:?}: {:?}", begun.elapsed());
        }
        server.resume().await;
        let found = timeout(PATIENCE, users.find_user(ada.id)).await.unwrap();
        assert_eq!(found.unwrap(), Some(ada.clone()), "at once, by itself");
        users.probe().await.unwrap();
    }
}

/// A server that is restarted while requests wait costs them only time.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_its_server() {
    let mut server = Server::start().await;
    server.stop(Stop::Fast).await;
    let url = server.url();
    let begun = Instant::now();
    let impatient = whatif::config::Database { timeout: Duration::from_secs(1), ..config(&url) };
    let error = Postgres::open(&impatient).await.unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(200), "it tried for a while");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    let place = url.split('@').next_back().unwrap();
    assert!(error.to_string().contains(place), "{error}");
    let config = config(&url);
    let (opened, ()) = futures::join!(Postgres::open(&config), server.resume());
    opened.unwrap().users().probe().await.unwrap();
}

#[tokio::test]
async fn connections_that_are_ended_cost_reads_nothing() {
    let database = TestDatabase::create().await;
    let users = database.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    for _ in 0..20 {
        // Several are open now.
        let found = futures::future::join_all((0..8).map(|_| users.find_user(ada.id))).await;
        assert!(found.iter().all(|found| found.as_ref().unwrap().is_some()));
        run_sql(
            database.url(),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
        assert!(users.find_user(ada.id).await.unwrap().is_some());
        assert!(users.set_suspension(ada.id, None, now()).await.unwrap());
    }
}

#[tokio::test]
async fn a_lock_that_stays_is_unavailable_and_one_that_goes_is_waited_for() {
    let database = TestDatabase::create().await;
    let users = database.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    let mut other = connect(database.url()).await;
    let lock = || sqlx::raw_sql("BEGIN; LOCK TABLE users IN EXCLUSIVE MODE");
    lock().execute(&mut other).await.unwrap();
    let begun = Instant::now();
    let error = users.set_suspension(ada.id, Some(now()), now()).await.unwrap_err();
    assert!(error.is_dependency_failure() && error.to_string().contains("locked"), "{error:?}");
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert_eq!(users.find_user(ada.id).await.unwrap(), Some(ada.clone()), "readers go on");
    let waiting = users.set_suspension(ada.id, Some(now()), now());
    let release = async { sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap() };
    let (outcome, _) = futures::join!(waiting, release);
    assert!(outcome.unwrap());
    other.close().await.unwrap();
}

/// The server works on, the caller does not wait, and the connection is not given to the next one.
#[tokio::test]
async fn a_statement_that_takes_too_long_ends() {
    let database = TestDatabase::create().await;
    let users = database.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    run_sql(
        database.url(),
        "CREATE FUNCTION crawl() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(30); RETURN NEW; END $$;
         CREATE TRIGGER crawl BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION crawl()",
    )
    .await;
    let begun = Instant::now();
    let error = users.set_suspension(ada.id, Some(now()), now()).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert!(error.is_dependency_failure() && begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    assert_eq!(users.find_user(ada.id).await.unwrap(), Some(ada));
}

/// Two that want the same rows in another order: the server makes one give way, and it tries again.
#[tokio::test]
async fn who_is_made_to_give_way_tries_again() {
    let database = TestDatabase::create().await;
    let users = database.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    run_sql(
        database.url(),
        "CREATE SEQUENCE tries;
         CREATE FUNCTION give_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') < 4 THEN RAISE EXCEPTION 'give way' USING ERRCODE = '40P01'; END IF;
             RETURN NEW; END $$;
         CREATE TRIGGER give_way BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION give_way()",
    )
    .await;
    assert!(users.set_suspension(ada.id, Some(now()), now()).await.unwrap());
    run_sql(
        database.url(),
        "ALTER SEQUENCE tries RESTART; ALTER SEQUENCE tries INCREMENT -1 MINVALUE -1000",
    )
    .await;
    let error = users.set_suspension(ada.id, None, now()).await.unwrap_err();
    assert!(error.is_dependency_failure(), "not for ever: {error:?}");
}

#[tokio::test]
async fn of_two_writers_of_one_row_under_serializable_isolation_both_get_through() {
    let database = TestDatabase::create().await;
    let name = database.url().rsplit('/').next().unwrap().split('?').next().unwrap();
    let strict =
        format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'");
    run_sql(database.url(), strict).await;
    let users = database.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    let rush = (0..4).map(|_| users.set_suspension(ada.id, Some(now()), now()));
    for outcome in futures::future::join_all(rush).await {
        assert!(outcome.unwrap());
    }
}

#[tokio::test]
async fn when_all_connections_are_taken_the_next_is_told_so_and_waits_no_longer_than_it_must() {
    let database = TestDatabase::create().await;
    let small = whatif::config::Database {
        pool_size: 2,
        acquire_timeout: Duration::from_millis(1_500),
        lock_timeout: Duration::from_secs(3),
        ..config(database.url())
    };
    let users = Postgres::open(&small).await.unwrap().users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    let find = |times: u32| futures::future::join_all((0..times).map(|_| users.find_user(ada.id)));
    assert!(find(2).await.iter().all(Result::is_ok), "both connections are open");
    let mut other = connect(database.url()).await;
    sqlx::raw_sql("BEGIN; LOCK TABLE users").execute(&mut other).await.unwrap();
    let outcomes = find(3).await;
    let throttled =
        |outcome: &&Result<_, StoreError>| matches!(outcome, Err(StoreError::Throttled { .. }));
    assert_eq!(outcomes.iter().filter(throttled).count(), 1, "{outcomes:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert!(users.find_user(ada.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_takes_no_more_connections_is_waited_for() {
    let database = TestDatabase::create().await;
    database.open().await.close().await;
    database.create_role("CONNECTION LIMIT 1").await;
    database.let_role_write().await;
    let url = database.url_of_role();
    let taken = connect(&url).await;
    let impatient = whatif::config::Database { timeout: Duration::from_secs(3), ..config(&url) };
    let error = Postgres::open(&impatient).await.unwrap_err();
    assert!(matches!(error, StoreError::Throttled { .. }), "{error:?}");
    assert!(error.to_string().contains("no more connections"), "{error}");
    taken.close().await.unwrap();
    let modest = whatif::config::Database { pool_size: 1, ..config(&url) };
    Postgres::open(&modest).await.unwrap().users().create_user(&user(), None).await.unwrap();
}

/// Some services do this to a server whose disk is nearly full.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_no_longer_writes_says_so_until_it_does_again() {
    let server = Server::start().await;
    let users = server.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    let suspend = async || users.set_suspension(ada.id, None, now()).await;
    run_sql(&server.url(), "ALTER SYSTEM SET default_transaction_read_only = on").await;
    run_sql(&server.url(), "SELECT pg_reload_conf()").await;
    eventually("a refusal", async || suspend().await.is_err()).await;
    let error = suspend().await.unwrap_err();
    assert!(error.is_dependency_failure() && error.to_string().contains("read-only"), "{error:?}");
    run_sql(&server.url(), "ALTER SYSTEM RESET default_transaction_read_only").await;
    run_sql(&server.url(), "SELECT pg_reload_conf()").await;
    eventually("writes again", async || suspend().await.is_ok()).await;
}

/// The name leads to the old primary, then to a replica that is not yet promoted, then to a new primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_is_followed() {
    let mut old = Server::start().await;
    let mut name = Name::of(&old).await;
    let users = Postgres::open(&config(&name.url())).await.unwrap().users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    let new = old.replica().await;
    eventually("the replica has her", async || {
        let mut replica = connect(&new.url()).await;
        let count = sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(&mut replica);
        count.await.is_ok_and(|count: i64| count == 1)
    })
    .await;
    name.lead_to(&new);
    old.stop(Stop::Kill).await;
    let error = users.find_user(ada.id).await.unwrap_err();
    assert!(error.is_dependency_failure(), "a replica is no primary: {error:?}");
    run_sql(&new.url(), "SELECT pg_promote()").await;
    assert_eq!(users.find_user(ada.id).await.unwrap(), Some(ada.clone()));
    assert!(users.set_suspension(ada.id, None, now()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_no_primary() {
    let primary = Server::start().await;
    primary.open().await.close().await;
    let replica = primary.replica().await;
    let config =
        whatif::config::Database { timeout: Duration::from_secs(3), ..config(&replica.url()) };
    let error = Postgres::open(&config).await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[tokio::test]
async fn what_a_server_refuses_at_the_door_is_said_without_the_password() {
    let database = TestDatabase::create().await;
    let elsewhere = database.url().replace("/whatif_test_", "/no_such_database_");
    let error = Postgres::open(&config(&elsewhere)).await.unwrap_err();
    assert!(error.to_string().contains("no such database"), "{error}");
    let closed = whatif::config::Database {
        timeout: Duration::from_millis(300),
        ..config("postgres://ada:hush@127.0.0.1:1/whatif")
    };
    let error = Postgres::open(&closed).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1/whatif"), "{error}");
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
}

#[tokio::test]
async fn a_record_of_a_later_version_is_corrupt_and_not_misread() {
    let database = TestDatabase::create().await;
    let users = database.open().await.users();
    let ada = user();
    users.create_user(&ada, None).await.unwrap();
    for change in ["role = 'owner'", "role = 'reader', created_at = 'infinity'"] {
        run_sql(database.url(), format!("UPDATE users SET {change}")).await;
        let error = users.find_user(ada.id).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)), "{change}: {error:?}");
    }
    run_sql(database.url(), "ALTER TABLE users RENAME COLUMN role TO roles").await;
    let error = users.find_user(UserId(uuid::Uuid::nil())).await.unwrap_err();
    assert!(!error.is_dependency_failure(), "{error:?}");
}

#[tokio::test]
async fn a_closed_store_fails_and_does_not_hang() {
    let database = TestDatabase::create().await;
    let postgres = database.open().await;
    postgres.close().await;
    assert!(matches!(postgres.users().probe().await, Err(StoreError::Unavailable(_))));
}
