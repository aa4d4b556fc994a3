//! What every back end of [`LoginStore`] must do.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use whatif::domain::ids::UserId;
use whatif::domain::login::{Client, Device, LoginSession};
use whatif::domain::user::LoginId;
use whatif::storage::login::{LoginStore, MAX_OF_USER};

use super::super::support::redis::until;

const LONG: Duration = Duration::from_secs(600);

pub async fn run(store: &dyn LoginStore) {
    what_is_recorded_is_listed(store).await;
    uses_never_go_back(store).await;
    forgetting(store).await;
    logins_run_out(store).await;
    a_user_has_no_more_than_so_many(store).await;
    changes_at_the_same_time(store).await;
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_microsecond(1_800_000_000_123_456).unwrap() + SignedDuration::from_secs(second)
}

fn someone() -> UserId {
    UserId(Uuid::new_v4())
}

fn login(user: UserId) -> LoginSession {
    LoginSession {
        id: LoginId(Uuid::new_v4()),
        user,
        client: Client {
            device: Device::new("Überbrowser/5.0 🦉 (x; y)"),
            address: Some("203.0.113.9".parse().unwrap()),
        },
        created_at: at(0),
        last_used_at: at(1),
        expires_at: at(1_000),
    }
}

async fn list(store: &dyn LoginStore, user: UserId) -> Vec<LoginSession> {
    let mut list = store.list_of_user(user).await.unwrap();
    list.sort_by_key(|login| login.id);
    list
}

fn sorted(mut logins: Vec<LoginSession>) -> Vec<LoginSession> {
    logins.sort_by_key(|login| login.id);
    logins
}

async fn what_is_recorded_is_listed(store: &dyn LoginStore) {
    let (ada, bob) = (someone(), someone());
    assert_eq!(list(store, ada).await, []);
    let first = login(ada);
    let nothing_known = LoginSession { client: Client::default(), ..login(ada) };
    let address = Some("2001:db8::7".parse().unwrap());
    let sixth = LoginSession { client: Client { device: None, address }, ..login(ada) };
    let bobs = login(bob);
    for login in [&first, &nothing_known, &sixth, &bobs] {
        store.record(login, LONG).await.unwrap();
        store.record(login, LONG).await.unwrap();
    }
    let all = sorted(vec![first.clone(), nothing_known, sixth]);
    assert_eq!(list(store, ada).await, all, "as they were given, each once");
    assert_eq!(list(store, bob).await, [bobs]);
    // A refresh from elsewhere.
    let client = Client { device: Device::new("Other/1"), address: None };
    let moved =
        LoginSession { client, last_used_at: at(50), expires_at: at(2_000), ..first.clone() };
    store.record(&moved, LONG).await.unwrap();
    assert!(list(store, ada).await.contains(&moved));
    assert_eq!(list(store, ada).await.len(), 3);
}

async fn uses_never_go_back(store: &dyn LoginStore) {
    let ada = login(someone());
    assert!(!store.touch(ada.user, ada.id, at(5)).await.unwrap(), "not known");
    assert_eq!(list(store, ada.user).await, [], "and not made known by that");
    store.record(&ada, LONG).await.unwrap();
    for (used, expected) in [(10, 10), (20, 20), (15, 20), (20, 20)] {
        assert!(store.touch(ada.user, ada.id, at(used)).await.unwrap());
        let expected = LoginSession { last_used_at: at(expected), ..ada.clone() };
        assert_eq!(list(store, ada.user).await, [expected]);
    }
    assert!(!store.touch(someone(), ada.id, at(99)).await.unwrap(), "of nobody else");
    // A record that was late.
    store.record(&ada, LONG).await.unwrap();
    assert_eq!(list(store, ada.user).await[0].last_used_at, at(20));
}

async fn forgetting(store: &dyn LoginStore) {
    let (ada, bob) = (someone(), login(someone()));
    let mut logins: Vec<_> = (0..6).map(|_| login(ada)).collect();
    for login in logins.iter().chain([&bob]) {
        store.record(login, LONG).await.unwrap();
    }
    let gone = logins.pop().unwrap();
    store.remove(ada, gone.id).await.unwrap();
    store.remove(ada, gone.id).await.unwrap();
    store.remove(ada, bob.id).await.unwrap();
    assert_eq!(list(store, ada).await, sorted(logins.clone()));
    assert!(!store.touch(ada, gone.id, at(9)).await.unwrap());
    let kept = logins.pop().unwrap();
    for _ in 0..2 {
        store.remove_of_user(ada, Some(kept.id)).await.unwrap();
        assert_eq!(list(store, ada).await, std::slice::from_ref(&kept));
    }
    store.remove_of_user(ada, Some(bob.id)).await.unwrap();
    assert_eq!(list(store, ada).await, []);
    store.record(&kept, LONG).await.unwrap();
    store.remove_of_user(ada, None).await.unwrap();
    store.remove_of_user(ada, None).await.unwrap();
    assert_eq!(list(store, ada).await, []);
    assert_eq!(list(store, bob.user).await, [bob], "others are not concerned");
}

async fn logins_run_out(store: &dyn LoginStore) {
    let ada = someone();
    let (short, long, renewed) = (login(ada), login(ada), login(ada));
    let keep = Duration::from_millis(80);
    store.record(&short, keep).await.unwrap();
    store.record(&renewed, keep).await.unwrap();
    store.record(&long, LONG).await.unwrap();
    store.record(&renewed, LONG).await.unwrap();
    // A use keeps nothing for longer.
    store.touch(ada, short.id, at(5)).await.unwrap();
    until("a login runs out", async || list(store, ada).await.len() == 2).await;
    assert_eq!(list(store, ada).await, sorted(vec![long.clone(), renewed.clone()]));
    assert!(!store.touch(ada, short.id, at(6)).await.unwrap());
    // One that is recorded for a short time does not take the others along.
    store.record(&login(ada), keep).await.unwrap();
    until("it runs out, too", async || list(store, ada).await.len() == 2).await;
    let for_ever = LoginSession { id: LoginId(Uuid::new_v4()), ..long };
    store.record(&for_ever, Duration::MAX).await.unwrap();
    assert_eq!(list(store, ada).await.len(), 3);
}

async fn a_user_has_no_more_than_so_many(store: &dyn LoginStore) {
    let ada = someone();
    let logins: Vec<_> = (0..MAX_OF_USER + 5).map(|_| login(ada)).collect();
    for (number, login) in logins.iter().enumerate() {
        let keep = LONG + Duration::from_secs(number as u64);
        store.record(login, keep).await.unwrap();
    }
    let kept = list(store, ada).await;
    assert_eq!(kept, sorted(logins[5..].to_vec()), "those that end first were forgotten");
    store.remove_of_user(ada, Some(logins[7].id)).await.unwrap();
    assert_eq!(list(store, ada).await, [logins[7].clone()]);
}

async fn changes_at_the_same_time(store: &dyn LoginStore) {
    let ada = someone();
    let logins: Vec<_> = (0..50).map(|_| login(ada)).collect();
    let record = logins.iter().map(|login| store.record(login, LONG));
    futures::future::try_join_all(record).await.unwrap();
    let touches = (1..=200).map(|second| store.touch(ada, logins[0].id, at(second)));
    let rest = logins[1..].iter().map(|login| store.remove(ada, login.id));
    let (touched, removed) =
        tokio::join!(futures::future::try_join_all(touches), futures::future::try_join_all(rest));
    assert!(touched.unwrap().into_iter().all(|known| known) && removed.is_ok());
    let left = LoginSession { last_used_at: at(200), ..logins[0].clone() };
    assert_eq!(list(store, ada).await, [left]);
}
