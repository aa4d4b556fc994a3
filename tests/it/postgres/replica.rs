//! A replica of the database whose replay is held up shows, for every read, who served it.

use std::time::Duration;

use jiff::Timestamp;
use whatif::domain::user::{EmailKey, LoginId, User};
use whatif::storage::postgres::user::PostgresUserStore;
use whatif::storage::user::{Login, TokenHash, UserStore};

use super::super::support::postgres::{Server, Stop, connect, run_sql};
use super::{eventually, user};

/// Longer than any test.
const AGES: Duration = Duration::from_secs(3_600);

struct Pair {
    primary: Server,
    replica: Server,
}

impl Pair {
    async fn start() -> Self {
        let primary = Server::start().await;
        primary.open().await.close().await;
        let replica = primary.replica().await;
        Self { primary, replica }
    }

    /// A replica of whatif that may miss what others wrote within `staleness`.
    async fn store(&self, staleness: Duration) -> PostgresUserStore {
        let read_url = Some(self.replica.url().into());
        let change = |config: &mut whatif::config::Database| {
            config.read_url = read_url;
            config.staleness = staleness;
        };
        self.primary.open_with(change).await.users()
    }

    /// The replica stays where the primary is now, and past whatever a store has learned until now.
    async fn pause(&self) {
        self.caught_up().await;
        run_sql(&self.replica.url(), "SELECT pg_wal_replay_pause()").await;
        eventually("paused", async || {
            let mut replica = connect(&self.replica.url()).await;
            let state = sqlx::query_scalar("SELECT pg_get_wal_replay_pause_state()");
            state.fetch_one(&mut replica).await.is_ok_and(|state: String| state == "paused")
        })
        .await;
    }

    async fn go_on(&self) {
        run_sql(&self.replica.url(), "SELECT pg_wal_replay_resume()").await;
    }

    async fn caught_up(&self) {
        let mut primary = connect(&self.primary.url()).await;
        // A commit, so that everything before it is sent.
        sqlx::query("SELECT pg_logical_emit_message(true, 'test', 'x')")
            .execute(&mut primary)
            .await
            .unwrap();
        let end: String = sqlx::query_scalar("SELECT pg_current_wal_flush_lsn()::text")
            .fetch_one(&mut primary)
            .await
            .unwrap();
        eventually("caught up", async || {
            let mut replica = connect(&self.replica.url()).await;
            let there = sqlx::query_scalar("SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn");
            there.bind(&end).fetch_one(&mut replica).await.unwrap()
        })
        .await;
    }

    /// Someone whom the replica knows.
    async fn known(&self, store: &PostgresUserStore) -> User {
        let ada = user();
        store.create_user(&ada, None).await.unwrap();
        self.caught_up().await;
        ada
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Changes the user behind every store's back.
async fn rename(pair: &Pair, user: &User, name: &str) {
    let sql = format!("UPDATE users SET display_name = '{name}' WHERE id = '{}'", user.id);
    run_sql(&pair.primary.url(), sql).await;
}

async fn shown(store: &PostgresUserStore, user: &User) -> String {
    store.find_profile(user.id).await.unwrap().unwrap().display_name
}

/// Lets a store ask the primary where it is, for as long as its staleness lasts. More than once: a slow answer is not
/// waited for.
async fn learn(store: &PostgresUserStore, user: &User) {
    for _ in 0..20 {
        assert_eq!(shown(store, user).await, user.display_name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_here_is_read_here_however_far_the_replica_is_behind() {
    let pair = Pair::start().await;
    let store = pair.store(AGES).await;
    let (ada, other) = (pair.known(&store).await, pair.known(&store).await);
    learn(&store, &ada).await;
    pair.pause().await;
    rename(&pair, &other, "Augusta").await;
    eventually("the replica serves", async || shown(&store, &other).await == "Ada").await;
    for round in 0..50 {
        let new = user();
        store.create_user(&new, None).await.unwrap();
        assert_eq!(store.find_profile(new.id).await.unwrap(), Some(new), "round {round}");
        let since = Some(at(round));
        assert!(store.set_suspension(ada.id, since, at(round)).await.unwrap());
        let found = store.find_profile(ada.id).await.unwrap().unwrap();
        assert_eq!(found.suspended_at, since, "round {round}");
    }
    pair.go_on().await;
    pair.caught_up().await;
    assert_eq!(store.find_profile(ada.id).await.unwrap().unwrap().suspended_at, Some(at(49)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_serves_who_was_not_written_here_and_the_primary_all_that_matters() {
    let pair = Pair::start().await;
    let here = pair.store(AGES).await;
    let elsewhere = pair.store(AGES).await;
    let ada = pair.known(&elsewhere).await;
    learn(&here, &ada).await;
    pair.pause().await;
    rename(&pair, &ada, "Augusta").await;
    eventually("the replica serves", async || shown(&here, &ada).await == "Ada").await;
    // What decides about someone is never old.
    let found = here.find_user(ada.id).await.unwrap().unwrap();
    assert_eq!(found.display_name, "Augusta");
    let account = here.find_account(&EmailKey::new(&ada.email)).await.unwrap().unwrap();
    assert_eq!(account.user.display_name, "Augusta");
    let login = Login {
        id: LoginId(uuid::Uuid::new_v4()),
        user: ada.id,
        current: TokenHash([1; 32]),
        previous: None,
        created_at: at(0),
        last_used_at: at(0),
        expires_at: at(100),
        revoked_at: None,
    };
    elsewhere.create_login(&login).await.unwrap();
    assert!(here.find_login(login.id).await.unwrap().is_some());
    elsewhere.revoke_login(login.id, at(1)).await.unwrap();
    assert_eq!(here.find_login(login.id).await.unwrap().unwrap().0.revoked_at, Some(at(1)));
    // Someone new is there everywhere at once.
    let new = user();
    elsewhere.create_user(&new, None).await.unwrap();
    assert_eq!(here.find_profile(new.id).await.unwrap(), Some(new));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_seen_within_the_staleness_allowed() {
    let pair = Pair::start().await;
    let strict = pair.store(Duration::ZERO).await;
    let lax = pair.store(Duration::from_millis(200)).await;
    let ada = pair.known(&strict).await;
    pair.pause().await;
    for round in 0..20 {
        let name = format!("Ada {round}");
        rename(&pair, &ada, &name).await;
        assert_eq!(shown(&strict, &ada).await, name, "none allowed");
    }
    rename(&pair, &ada, "Augusta").await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(shown(&lax, &ada).await, "Augusta", "the time is over, the replica still behind");
    pair.go_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_replica_the_primary_serves_and_the_replica_is_used_again_when_it_is_back() {
    let mut pair = Pair::start().await;
    let store = pair.store(AGES).await;
    let ada = pair.known(&store).await;
    assert_eq!(shown(&store, &ada).await, "Ada");
    pair.replica.stop(Stop::Kill).await;
    rename(&pair, &ada, "Augusta").await;
    for _ in 0..100 {
        assert_eq!(shown(&store, &ada).await, "Augusta", "from the primary");
    }
    pair.replica.resume().await;
    pair.caught_up().await;
    pair.pause().await;
    rename(&pair, &ada, "Lovelace").await;
    eventually("the replica serves", async || shown(&store, &ada).await == "Augusta").await;
    pair.go_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_not_there_at_the_start_keeps_nobody_from_starting() {
    let primary = Server::start().await;
    let url = "postgres://postgres@127.0.0.1:1/postgres";
    let store = primary.open_with(|config| config.read_url = Some(url.into())).await.users();
    let ada = user();
    store.create_user(&ada, None).await.unwrap();
    assert_eq!(store.find_profile(ada.id).await.unwrap(), Some(ada));
}
