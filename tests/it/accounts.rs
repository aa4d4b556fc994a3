//! Accounts, through the service's handle, on real files.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ractor::{Actor, ActorCell};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use uuid::Uuid;
use whatif::actors::status::{Liveness, ServiceStatus};
use whatif::actors::supervisor::{Excess, Supervisor, SupervisorArgs, stop_supervisor};
use whatif::actors::user::{HashCost, Parts, ServerSecret, UserHandle, build};
use whatif::clock::Clock;
use whatif::config;
use whatif::domain::ids::UserId;
use whatif::domain::login::Client;
use whatif::domain::user::{EmailKey, Grant, Registration};
use whatif::error::{Code, ServiceError};
use whatif::storage::embedded::{LocalLogins, LocalRevocations};
use whatif::storage::sqlite::user::SqliteUserStore;
use whatif::storage::user::UserStore;

const WORKERS: usize = 2;
const QUEUE: usize = 8;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "correct horse";

struct Fixture {
    folder: TempDir,
    store: SqliteUserStore,
    users: UserHandle,
    status: Arc<ServiceStatus>,
    root: ActorCell,
}

async fn start() -> Fixture {
    start_in(tempfile::tempdir().unwrap(), HashCost::new(8, 1, 1).unwrap()).await
}

async fn start_in(folder: TempDir, cost: HashCost) -> Fixture {
    let store = SqliteUserStore::open(folder.path()).await.unwrap();
    let auth =
        config::Auth { hashing_workers: WORKERS, hashing_queue: QUEUE, ..config::Auth::default() };
    let parts = Parts {
        store: Arc::new(store.clone()),
        revocations: Arc::new(LocalRevocations::default()),
        logins: Arc::new(LocalLogins::default()),
        secret: ServerSecret::new(&SECRET.into()).unwrap(),
        cost,
        clock: Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap()),
    };
    let (users, spec, status) =
        build(&auth, &config::Logins::default(), &config::Circuits::default(), parts);
    let excess = Excess::Contain { revive_after: Duration::from_secs(60) };
    let args = SupervisorArgs { name: "root", children: vec![spec], excess };
    let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
    Fixture { folder, store, users, status, root: root.get_cell() }
}

/// Moves the clock without letting the runtime skip ahead while the database works.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ada() -> Registration {
    registration("Ada@Example.org")
}

fn registration(email: &str) -> Registration {
    Registration { email: email.into(), password: PASSWORD.into(), display_name: "Ada".into() }
}

fn code<T: std::fmt::Debug>(outcome: &Result<T, ServiceError>) -> Code {
    outcome.as_ref().unwrap_err().code
}

impl Fixture {
    async fn registered(&self) -> Grant {
        self.users.register(ada(), None, Client::default()).await.unwrap()
    }

    async fn refresh(&self, grant: &Grant) -> Result<Grant, ServiceError> {
        self.users.refresh(&grant.tokens.refresh_token, Client::default()).await
    }
}

fn same_token(a: &Grant, b: &Grant) -> bool {
    a.tokens.refresh_token.expose_secret() == b.tokens.refresh_token.expose_secret()
}

#[tokio::test]
async fn a_new_account_is_signed_in_and_can_sign_in_again() {
    let fixture = start().await;
    let grant = fixture.registered().await;
    assert_eq!(grant.user.email, "Ada@Example.org");
    assert_eq!(grant.tokens.expires_in, seconds(15 * 60));
    let caller = fixture.users.verify(grant.tokens.access_token.expose_secret()).unwrap();
    assert_eq!((caller.user, caller.role), (grant.user.id, grant.user.role));
    assert_eq!(fixture.users.find(grant.user.id).await.unwrap(), Some(grant.user.clone()));
    let again =
        fixture.users.login(" ada@EXAMPLE.org ", PASSWORD.into(), Client::default()).await.unwrap();
    assert_eq!(again.user, grant.user);
    let second = fixture.users.verify(again.tokens.access_token.expose_secret()).unwrap();
    assert_ne!(second.login, caller.login, "each sign-in is a login of its own");
    assert_eq!(fixture.users.find(UserId(Uuid::nil())).await.unwrap(), None);
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let fixture = start().await;
    let bad =
        Registration { email: "ada".into(), password: "hunter2".into(), display_name: "\n".into() };
    let error = fixture.users.register(bad, None, Client::default()).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    let fields: Vec<_> = error.details.iter().map(|detail| detail.field.as_str()).collect();
    assert_eq!(fields, ["email", "password", "display_name"]);
}

#[tokio::test]
async fn of_many_who_register_one_address_at_once_one_wins() {
    let fixture = start().await;
    let spellings = ["ada@example.org", "ADA@example.org", " Ada@Example.Org", "ada@EXAMPLE.ORG"];
    let rush =
        spellings.map(|email| fixture.users.register(registration(email), None, Client::default()));
    let outcomes = futures::future::join_all(rush).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| outcome.is_err()) {
        assert_eq!(code(outcome), Code::Conflict);
    }
}

#[tokio::test]
async fn a_repeat_with_the_reserved_id_signs_in_and_a_thief_of_it_does_not() {
    let fixture = start().await;
    let reserved = Some(UserId(Uuid::from_u128(7)));
    let first = fixture.users.register(ada(), reserved, Client::default()).await.unwrap();
    assert_eq!(Some(first.user.id), reserved);
    let again = fixture.users.register(ada(), reserved, Client::default()).await.unwrap();
    assert_eq!(again.user, first.user);
    assert!(fixture.refresh(&again).await.is_ok());
    let guess = Registration { password: "another password".into(), ..ada() };
    assert_eq!(
        code(&fixture.users.register(guess, reserved, Client::default()).await),
        Code::Conflict
    );
    let other = fixture
        .users
        .register(registration("other@example.org"), reserved, Client::default())
        .await;
    assert_eq!(code(&other), Code::Conflict, "the id belongs to someone else");
}

#[tokio::test]
async fn an_unknown_address_and_a_wrong_password_look_the_same() {
    let fixture = start().await;
    fixture.registered().await;
    let long = "p".repeat(1_025);
    let far_too_long = "e".repeat(10_000);
    let mut errors = Vec::new();
    for (email, password) in [
        ("ada@example.org", "wrong password"),
        ("nobody@example.org", PASSWORD),
        ("ada@example.org", ""),
        ("ada@example.org", &long),
        (&far_too_long, PASSWORD),
        ("", ""),
    ] {
        let error =
            fixture.users.login(email, password.into(), Client::default()).await.unwrap_err();
        assert_eq!(error.code, Code::Unauthenticated);
        errors.push(error.to_string());
    }
    assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
    let hashed = fixture.status.pools[1].totals().succeeded;
    assert_eq!(hashed, 1 + 6, "each of them cost a hash");
}

#[tokio::test]
async fn too_many_hashes_at_once_are_refused_at_once_and_the_rest_is_served() {
    let fixture = start().await;
    let rush = (0..WORKERS + QUEUE + 5).map(|number| {
        let new = registration(&format!("user{number}@example.org"));
        fixture.users.register(new, None, Client::default())
    });
    let outcomes = futures::future::join_all(rush).await;
    let (served, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.is_ok());
    assert_eq!((served.len(), refused.len()), (WORKERS + QUEUE, 5));
    for outcome in refused {
        assert_eq!(code(outcome), Code::ServiceUnavailable);
        assert!(outcome.as_ref().unwrap_err().retry_after.is_some());
    }
    assert_eq!(fixture.status.liveness(), Liveness::Up);
    fixture.registered().await;
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_and_a_repeat_within_the_grace_gets_the_same() {
    let fixture = start().await;
    let first = fixture.registered().await;
    advance(seconds(60)).await;
    let second = fixture.refresh(&first).await.unwrap();
    assert!(!same_token(&first, &second));
    assert_eq!(second.user, first.user);
    advance(seconds(9)).await;
    let repeat = fixture.refresh(&first).await.unwrap();
    assert!(same_token(&repeat, &second), "both holders go on with one token");
    assert!(fixture.users.verify(repeat.tokens.access_token.expose_secret()).is_ok());
    advance(seconds(60)).await;
    let third = fixture.refresh(&second).await.unwrap();
    assert!(fixture.refresh(&third).await.is_ok());
}

#[tokio::test]
async fn refreshes_at_the_same_time_agree() {
    let fixture = start().await;
    let first = fixture.registered().await;
    let rush = futures::future::join_all((0..16).map(|_| fixture.refresh(&first))).await;
    let grants: Vec<_> = rush.into_iter().map(Result::unwrap).collect();
    assert!(grants.iter().all(|grant| same_token(grant, &grants[0])));
    assert!(fixture.refresh(&grants[0]).await.is_ok());
}

#[tokio::test]
async fn a_token_used_again_after_the_grace_ends_the_whole_login_and_no_other() {
    let fixture = start().await;
    let first = fixture.registered().await;
    let elsewhere =
        fixture.users.login("ada@example.org", PASSWORD.into(), Client::default()).await.unwrap();
    let second = fixture.refresh(&first).await.unwrap();
    advance(seconds(11)).await;
    assert_eq!(code(&fixture.refresh(&first).await), Code::InvalidToken);
    assert_eq!(code(&fixture.refresh(&second).await), Code::InvalidToken, "the thief's or ours");
    assert!(fixture.refresh(&elsewhere).await.is_ok());
}

#[tokio::test]
async fn a_token_older_than_the_last_ends_the_login_even_within_the_grace() {
    let fixture = start().await;
    let first = fixture.registered().await;
    let second = fixture.refresh(&first).await.unwrap();
    let third = fixture.refresh(&second).await.unwrap();
    assert_eq!(code(&fixture.refresh(&first).await), Code::InvalidToken);
    assert_eq!(code(&fixture.refresh(&third).await), Code::InvalidToken);
}

#[tokio::test]
async fn garbage_is_refused_and_ends_nothing() {
    let fixture = start().await;
    let grant = fixture.registered().await;
    let text = grant.tokens.refresh_token.expose_secret();
    let mut forged = text.to_owned();
    forged.replace_range(40..41, if &text[40..41] == "A" { "B" } else { "A" });
    for bad in ["", "x", &forged, &text.repeat(100)] {
        assert_eq!(
            code(&fixture.users.refresh(&bad.into(), Client::default()).await),
            Code::InvalidToken
        );
        fixture.users.logout(&bad.into()).await.unwrap();
    }
    assert!(fixture.refresh(&grant).await.is_ok());
}

#[tokio::test]
async fn logout_ends_its_login_only_and_may_be_repeated() {
    let fixture = start().await;
    let grant = fixture.registered().await;
    let elsewhere =
        fixture.users.login("ada@example.org", PASSWORD.into(), Client::default()).await.unwrap();
    for _ in 0..2 {
        fixture.users.logout(&grant.tokens.refresh_token).await.unwrap();
        assert_eq!(code(&fixture.refresh(&grant).await), Code::InvalidToken);
    }
    assert!(fixture.refresh(&elsewhere).await.is_ok());
}

#[tokio::test]
async fn a_login_lives_from_refresh_to_refresh_and_is_then_forgotten() {
    let fixture = start().await;
    let day = 24 * 3_600;
    let first = fixture.registered().await;
    advance(seconds(29 * day)).await;
    let second = fixture.refresh(&first).await.unwrap();
    advance(seconds(29 * day)).await;
    let third = fixture.refresh(&second).await.unwrap();
    advance(seconds(30 * day)).await;
    assert_eq!(code(&fixture.refresh(&third).await), Code::InvalidToken);
    assert_eq!(fixture.users.purge().await.unwrap(), 0);
    advance(seconds(day + 1)).await;
    assert_eq!(fixture.users.purge().await.unwrap(), 1);
    assert_eq!(code(&fixture.refresh(&third).await), Code::InvalidToken);
}

#[tokio::test]
async fn the_suspended_are_kept_out_and_come_back() {
    let fixture = start().await;
    let grant = fixture.registered().await;
    assert!(fixture.users.set_suspended(grant.user.id, true).await.unwrap());
    let login = |password: &str| {
        let password = SecretString::from(password);
        async { fixture.users.login("ada@example.org", password, Client::default()).await }
    };
    assert_eq!(code(&login(PASSWORD).await), Code::InsufficientPermissions);
    assert_eq!(code(&login("a guess of it").await), Code::Unauthenticated, "no word to strangers");
    assert_eq!(code(&fixture.refresh(&grant).await), Code::InsufficientPermissions);
    let repeat = fixture.users.register(ada(), Some(grant.user.id), Client::default()).await;
    assert_eq!(code(&repeat), Code::InsufficientPermissions);
    assert!(fixture.users.find(grant.user.id).await.unwrap().unwrap().is_suspended());
    assert!(fixture.users.set_suspended(grant.user.id, false).await.unwrap());
    assert!(fixture.refresh(&grant).await.is_ok(), "the token was not used up");
}

#[tokio::test]
async fn a_login_brings_the_hash_to_todays_costs() {
    let fixture = start().await;
    fixture.registered().await;
    stop_supervisor(fixture.root.clone(), seconds(5)).await;
    fixture.store.close().await;
    let dearer = start_in(fixture.folder, HashCost::new(16, 2, 1).unwrap()).await;
    dearer.users.login("ada@example.org", PASSWORD.into(), Client::default()).await.unwrap();
    let account = dearer.store.find_account(&EmailKey::new("ada@example.org")).await.unwrap();
    let hash = account.unwrap().credential.unwrap().hash;
    assert!(hash.contains("m=16,t=2,p=1"), "{hash}");
    dearer.users.login("ada@example.org", PASSWORD.into(), Client::default()).await.unwrap();
}

#[tokio::test]
async fn without_its_database_the_service_refuses_quickly_but_still_knows_its_callers() {
    let fixture = start().await;
    let grant = fixture.registered().await;
    fixture.store.close().await;
    for _ in 0..50 {
        let outcome = fixture.users.find(grant.user.id).await;
        assert_eq!(code(&outcome), Code::ServiceUnavailable);
    }
    assert!(fixture.users.verify(grant.tokens.access_token.expose_secret()).is_ok());
    assert_eq!(fixture.status.restarts(), 0, "an outage never restarts a service");
    assert!(fixture.status.pools[0].totals().refused > 0, "the circuit opened");
}

#[tokio::test]
async fn stopping_refuses_new_work() {
    let fixture = start().await;
    let grant = fixture.registered().await;
    stop_supervisor(fixture.root.clone(), seconds(5)).await;
    assert_eq!(fixture.status.liveness(), Liveness::Stopped);
    assert_eq!(code(&fixture.users.find(grant.user.id).await), Code::ServiceUnavailable);
}

#[tokio::test]
async fn no_secret_is_in_debug_output_or_in_the_file() {
    let fixture = start().await;
    let grant = fixture.registered().await;
    let second = fixture.refresh(&grant).await.unwrap();
    let (_, claims) = grant.tokens.access_token.expose_secret().split_once('.').unwrap();
    let account = fixture.store.find_account(&EmailKey::new("ada@example.org")).await.unwrap();
    let account = account.unwrap();
    let caller = fixture.users.verify(second.tokens.access_token.expose_secret()).unwrap();
    let login = fixture.store.find_login(caller.login).await.unwrap();
    let shown = format!("{:?} {grant:?} {second:?} {account:?} {login:?}", ada());
    let secrets = [
        PASSWORD,
        SECRET,
        claims,
        grant.tokens.refresh_token.expose_secret(),
        second.tokens.refresh_token.expose_secret(),
    ];
    let hash = account.credential.unwrap().hash;
    for secret in secrets.iter().chain([&hash.as_str()]) {
        assert!(!shown.contains(secret), "{shown}");
    }
    for entry in std::fs::read_dir(fixture.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret}");
        }
    }
}
