//! What every back end of [`UserStore`] must do. Each calls [`run`] with an empty store.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;
use whatif::domain::ids::UserId;
use whatif::domain::user::{EmailKey, LoginId, Role, User};
use whatif::storage::StoreError;
use whatif::storage::user::{
    Credential, Login, PasswordScheme, Rotated, Rotation, TokenHash, UserStore,
};

pub async fn run(store: &dyn UserStore) {
    store.probe().await.unwrap();
    users(store).await;
    credentials_and_suspension(store).await;
    registration_race(store).await;
    logins(store).await;
    rotation_race(store).await;
    logins_of_a_user(store).await;
    purge(store).await;
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_microsecond(1_800_000_000_123_456).unwrap() + SignedDuration::from_secs(second)
}

fn user(number: u128, email: &str) -> User {
    User {
        id: UserId(Uuid::from_u128(number)),
        email: email.into(),
        display_name: "Ada 🦉".into(),
        role: Role::Moderator,
        suspended_at: None,
        created_at: at(0),
        updated_at: at(1),
    }
}

fn credential(hash: &str) -> Credential {
    Credential { scheme: PasswordScheme::Argon2id, hash: hash.into() }
}

fn login(number: u128, user: &User) -> Login {
    Login {
        id: LoginId(Uuid::from_u128(number)),
        user: user.id,
        current: TokenHash([1; 32]),
        previous: None,
        created_at: at(0),
        last_used_at: at(0),
        expires_at: at(100),
        revoked_at: None,
    }
}

fn rotation(login: &Login, from: u8, to: u8, second: i64) -> Rotation {
    Rotation {
        login: login.id,
        from: Rotated { hash: TokenHash([from; 32]), at: at(second), successor: vec![to; 5] },
        to: TokenHash([to; 32]),
        expires_at: at(second + 100),
    }
}

async fn users(store: &dyn UserStore) {
    let ada = user(1, "Ada@Example.org");
    assert_eq!(store.find_user(ada.id).await.unwrap(), None);
    assert_eq!(store.find_profile(ada.id).await.unwrap(), None);
    for nobodys in ["", "a\0b@example.org", "'; DROP TABLE users; --"] {
        assert_eq!(store.find_account(&EmailKey::new(nobodys)).await.unwrap(), None);
    }
    assert_eq!(store.find_account(&EmailKey::new(&ada.email)).await.unwrap(), None);
    store.create_user(&ada, Some(&credential("one"))).await.unwrap();
    assert_eq!(store.find_user(ada.id).await.unwrap(), Some(ada.clone()), "as it was given");
    for spelling in ["Ada@Example.org", " ada@example.org ", "ADA@EXAMPLE.ORG"] {
        let account = store.find_account(&EmailKey::new(spelling)).await.unwrap().unwrap();
        assert_eq!(account.user, ada, "{spelling}");
        assert_eq!(account.credential, Some(credential("one")));
    }
    for (what, other) in [
        ("the e-mail in another case", user(2, "ADA@example.org")),
        ("the id", user(1, "other@example.org")),
        ("both", ada.clone()),
    ] {
        let refused = store.create_user(&other, Some(&credential("two"))).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{what}: {refused:?}");
    }
    let account = store.find_account(&EmailKey::new(&ada.email)).await.unwrap().unwrap();
    assert_eq!(account.credential, Some(credential("one")), "a refused write changes nothing");
    let (upper, lower) = (user(3, "ÅSA@example.org"), user(4, "åsa@example.org"));
    store.create_user(&upper, None).await.unwrap();
    let refused = store.create_user(&lower, None).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "case beyond ASCII");
    let account = store.find_account(&EmailKey::new("åsa@example.org")).await.unwrap().unwrap();
    assert_eq!(account.credential, None, "an account may have no password");
}

async fn credentials_and_suspension(store: &dyn UserStore) {
    let grace = user(20, "grace@example.org");
    let nobody = UserId(Uuid::from_u128(999));
    assert!(!store.set_credential(nobody, &credential("x"), at(2)).await.unwrap());
    assert!(!store.set_suspension(nobody, Some(at(2)), at(2)).await.unwrap());
    store.create_user(&grace, None).await.unwrap();
    for hash in ["first", "second"] {
        assert!(store.set_credential(grace.id, &credential(hash), at(2)).await.unwrap());
        let account = store.find_account(&EmailKey::new(&grace.email)).await.unwrap().unwrap();
        assert_eq!(account.credential, Some(credential(hash)));
    }
    assert!(store.set_suspension(grace.id, Some(at(3)), at(4)).await.unwrap());
    let found = store.find_user(grace.id).await.unwrap().unwrap();
    assert_eq!((found.suspended_at, found.updated_at), (Some(at(3)), at(4)));
    assert_eq!(store.find_profile(grace.id).await.unwrap(), Some(found), "written here");
    assert!(store.set_suspension(grace.id, None, at(5)).await.unwrap());
    let found = store.find_user(grace.id).await.unwrap().unwrap();
    assert_eq!((found.suspended_at, found.updated_at), (None, at(5)));
}

async fn registration_race(store: &dyn UserStore) {
    let rivals: Vec<_> = (30..46).map(|number| user(number, "race@example.org")).collect();
    let mine = credential("mine");
    let created = rivals.iter().map(|rival| store.create_user(rival, Some(&mine)));
    let outcomes = futures::future::join_all(created).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(StoreError::Conflict(_))), "{outcome:?}");
    }
}

async fn logins(store: &dyn UserStore) {
    let joan = user(50, "joan@example.org");
    let first = login(50, &joan);
    assert!(
        matches!(store.create_login(&first).await, Err(StoreError::Conflict(_))),
        "a login needs its user"
    );
    store.create_user(&joan, None).await.unwrap();
    store.create_login(&first).await.unwrap();
    assert!(matches!(store.create_login(&first).await, Err(StoreError::Conflict(_))));
    let found = store.find_login(first.id).await.unwrap();
    assert_eq!(found, Some((first.clone(), joan.clone())));
    assert_eq!(store.find_login(LoginId(Uuid::from_u128(51))).await.unwrap(), None);

    assert!(store.rotate_login(&rotation(&first, 1, 2, 10)).await.unwrap());
    let (found, _) = store.find_login(first.id).await.unwrap().unwrap();
    let expected = Login {
        current: TokenHash([2; 32]),
        previous: Some(Rotated { hash: TokenHash([1; 32]), at: at(10), successor: vec![2; 5] }),
        last_used_at: at(10),
        expires_at: at(110),
        ..first.clone()
    };
    assert_eq!(found, expected);
    assert!(!store.rotate_login(&rotation(&first, 1, 3, 11)).await.unwrap(), "no longer current");

    assert!(store.revoke_login(first.id, at(20)).await.unwrap());
    assert!(!store.revoke_login(first.id, at(21)).await.unwrap(), "only once");
    assert!(!store.rotate_login(&rotation(&first, 2, 3, 22)).await.unwrap(), "revoked");
    let (found, _) = store.find_login(first.id).await.unwrap().unwrap();
    assert_eq!(found, Login { revoked_at: Some(at(20)), ..expected });
}

async fn rotation_race(store: &dyn UserStore) {
    let mary = user(60, "mary@example.org");
    let held = login(60, &mary);
    store.create_user(&mary, None).await.unwrap();
    store.create_login(&held).await.unwrap();
    let rotations: Vec<_> = (2..18).map(|to| rotation(&held, 1, to, 1)).collect();
    let outcomes =
        futures::future::join_all(rotations.iter().map(|one| store.rotate_login(one))).await;
    let won: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = &rotations[won.iter().position(|won| *won).unwrap()];
    let (found, _) = store.find_login(held.id).await.unwrap().unwrap();
    assert_eq!(found.current, winner.to);
    assert_eq!(found.previous.as_ref(), Some(&winner.from));
}

async fn logins_of_a_user(store: &dyn UserStore) {
    let (ada, bob) = (user(80, "ada80@example.org"), user(81, "bob81@example.org"));
    assert!(store.list_logins(ada.id, at(0), 10).await.unwrap().is_empty());
    assert!(store.revoke_logins(ada.id, None, at(0), at(-100)).await.unwrap().is_empty());
    for owner in [&ada, &bob] {
        store.create_user(owner, None).await.unwrap();
    }
    let used = |number: u128, last: i64| Login { last_used_at: at(last), ..login(number, &ada) };
    let (first, second, third) = (used(80, 5), used(81, 7), used(82, 6));
    let expired = Login { expires_at: at(50), ..used(83, 8) };
    let ended = Login { revoked_at: Some(at(9)), ..used(84, 9) };
    let long_ended = Login { revoked_at: Some(at(-500)), ..used(85, 9) };
    let bobs = login(86, &bob);
    for login in [&first, &second, &third, &expired, &ended, &long_ended, &bobs] {
        store.create_login(login).await.unwrap();
    }
    let list = async |now, limit| store.list_logins(ada.id, now, limit).await.unwrap();
    let good = [second.clone(), third.clone(), first.clone()];
    assert_eq!(list(at(50), 10).await, good, "the last used first, as they were given");
    assert_eq!(list(at(50), 2).await, good[..2]);
    assert_eq!(list(at(49), 10).await[0], expired, "until it runs out");
    assert!(list(at(100), 10).await.is_empty());

    let revoke = async |except, now| {
        let mut ended = store.revoke_logins(ada.id, except, now, at(0)).await.unwrap();
        ended.sort();
        ended
    };
    let all_others = [second.id, third.id, expired.id, ended.id];
    // A repeat tells them again, and changes nothing.
    for now in [at(20), at(21)] {
        assert_eq!(revoke(Some(first.id), now).await, all_others);
        assert_eq!(list(at(50), 10).await, std::slice::from_ref(&first));
        let (found, _) = store.find_login(second.id).await.unwrap().unwrap();
        assert_eq!(found, Login { revoked_at: Some(at(20)), ..second.clone() });
    }
    assert!(!store.rotate_login(&rotation(&third, 1, 2, 30)).await.unwrap(), "ended for good");
    assert_eq!(revoke(None, at(30)).await.len(), 5);
    assert!(list(at(50), 10).await.is_empty());
    assert_eq!(store.list_logins(bob.id, at(50), 10).await.unwrap(), [bobs], "nobody else's");
}

async fn purge(store: &dyn UserStore) {
    let owner = user(70, "owner@example.org");
    store.create_user(&owner, None).await.unwrap();
    let far = 1_000_000;
    for number in 0..5_i64 {
        let number_id = 70 + u128::try_from(number).unwrap();
        let expires_at = at(-far + number);
        store.create_login(&Login { expires_at, ..login(number_id, &owner) }).await.unwrap();
    }
    assert_eq!(store.purge_logins(at(-far + 3), 2).await.unwrap(), 2, "no more than asked");
    assert_eq!(store.purge_logins(at(-far + 3), 100).await.unwrap(), 1);
    assert_eq!(store.purge_logins(at(-far + 3), 100).await.unwrap(), 0);
    for number in [73, 74] {
        let found = store.find_login(LoginId(Uuid::from_u128(number))).await.unwrap();
        assert!(found.is_some(), "{number} has not run out");
    }
}
