//! Through the handle, on a real file.

use jiff::Timestamp;
use ractor::{Actor, ActorCell};

use super::*;
use crate::actors::supervisor::{Excess, Supervisor, SupervisorArgs};
use crate::storage::sqlite::idempotency::SqliteAnswerStore;

struct Fixture {
    folder: tempfile::TempDir,
    store: SqliteAnswerStore,
    answers: AnswersHandle,
    _root: ActorCell,
}

fn secret(letter: &str) -> ServerSecret {
    ServerSecret::new(&letter.repeat(32).into()).unwrap()
}

async fn handle(store: &SqliteAnswerStore, secret: ServerSecret) -> (AnswersHandle, ActorCell) {
    let parts = Parts {
        store: Arc::new(store.clone()),
        secret,
        clock: Clock::starting_at(Timestamp::from_second(1_800_000_000).unwrap()),
        request_timeout: Duration::from_secs(30),
    };
    let (answers, spec, _status) = build(&config::Circuits::default(), parts);
    let excess = Excess::Contain { revive_after: Duration::from_secs(60) };
    let args = SupervisorArgs { name: "root", children: vec![spec], excess };
    let (root, _) = Actor::spawn(None, Supervisor, args).await.unwrap();
    (answers, root.get_cell())
}

async fn start() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteAnswerStore::open(folder.path()).await.unwrap();
    let (answers, root) = handle(&store, secret("a")).await;
    Fixture { folder, store, answers, _root: root }
}

/// Moves the clock without letting the runtime skip ahead while the database works.
async fn advance(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

const REQUEST: Request<'_> = Request {
    scope: "POST /auth/register",
    key: "k-1",
    method: "POST",
    path: "/api/v1/auth/register",
    body: b"{\"password\":\"hunter2hunter2\"}",
};

fn claim(begun: Result<Begun, ServiceError>) -> Claim {
    match begun {
        Ok(Begun::New(claim)) => claim,
        other => panic!("not a claim: {other:?}"),
    }
}

#[tokio::test]
async fn a_repeat_gets_the_first_answer_for_a_day() {
    let fixture = start().await;
    let answers = &fixture.answers;
    let first = claim(answers.begin(REQUEST).await);
    let running = answers.begin(REQUEST).await.unwrap_err();
    assert_eq!(running.code, Code::Conflict);
    assert!(running.retry_after.is_some());
    answers.finish(first, 201, "{\"refresh_token\":\"s3cret\"}".into()).await.unwrap();
    for wait in [0, 3_600, 22 * 3_600] {
        advance(wait).await;
        match answers.begin(REQUEST).await.unwrap() {
            Begun::Replay { status, body } => {
                assert_eq!((status, &body[..]), (201, &b"{\"refresh_token\":\"s3cret\"}"[..]));
            }
            Begun::New(_) => panic!("ran again"),
        }
    }
    assert_eq!(answers.purge().await.unwrap(), 0);
    advance(3_601).await;
    assert_eq!(answers.purge().await.unwrap(), 1);
    claim(answers.begin(REQUEST).await);
}

#[tokio::test]
async fn any_difference_in_the_request_is_a_conflict() {
    let fixture = start().await;
    let held = claim(fixture.answers.begin(REQUEST).await);
    fixture.answers.finish(held, 201, Bytes::new()).await.unwrap();
    for (what, request) in [
        ("method", Request { method: "PUT", ..REQUEST }),
        ("path", Request { path: "/api/v1/scenarios", ..REQUEST }),
        ("body", Request { body: b"{}", ..REQUEST }),
        (
            "bytes moved from body to path",
            Request { path: "/api/v1/auth/register{", body: &REQUEST.body[1..], ..REQUEST },
        ),
    ] {
        let error = fixture.answers.begin(request).await.unwrap_err();
        assert_eq!(error.code, Code::IdempotencyConflict, "{what}");
    }
    let other_user = Request { scope: "someone else", body: b"{}", ..REQUEST };
    claim(fixture.answers.begin(other_user).await);
}

#[tokio::test]
async fn a_retry_after_a_failure_or_a_crash_creates_the_same_thing() {
    let fixture = start().await;
    let answers = &fixture.answers;
    let first = claim(answers.begin(REQUEST).await);
    let reserved = first.reserved;
    answers.abandon(first).await.unwrap();
    let second = claim(answers.begin(REQUEST).await);
    assert_eq!(second.reserved, reserved, "after a failure");
    advance(31).await;
    assert!(answers.begin(REQUEST).await.is_err(), "perhaps it still runs");
    advance(2).await;
    let third = claim(answers.begin(REQUEST).await);
    assert_eq!(third.reserved, reserved, "after a crash");
    answers.abandon(second).await.unwrap();
    assert!(answers.begin(REQUEST).await.is_err(), "the third still holds it");
}

#[tokio::test]
async fn keys_are_checked() {
    let fixture = start().await;
    let long = "k".repeat(255);
    let too_long = "k".repeat(256);
    for (key, good) in
        [("~", true), (&long, true), ("", false), (&too_long, false), ("a b", false), ("é", false)]
    {
        let outcome = fixture.answers.begin(Request { key, ..REQUEST }).await;
        match outcome {
            Ok(_) => assert!(good, "{key}"),
            Err(error) => {
                assert!(!good, "{key}");
                assert_eq!(error.details[0].field, "Idempotency-Key");
            }
        }
    }
}

#[tokio::test]
async fn neither_the_file_nor_debug_output_shows_a_request_or_an_answer() {
    let fixture = start().await;
    let held = claim(fixture.answers.begin(REQUEST).await);
    fixture.answers.finish(held, 201, "refresh_token".into()).await.unwrap();
    let replay = fixture.answers.begin(REQUEST).await.unwrap();
    assert!(!format!("{replay:?}").contains("refresh_token"));
    let plain = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, REQUEST.body);
    for entry in std::fs::read_dir(fixture.folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in [b"hunter2".as_slice(), b"refresh_token", plain.as_ref()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}

#[tokio::test]
async fn an_answer_outlives_its_secret_only_while_that_is_in_the_ring() {
    let fixture = start().await;
    let held = claim(fixture.answers.begin(REQUEST).await);
    fixture.answers.finish(held, 201, "answer".into()).await.unwrap();
    let (rotated, _root) = handle(&fixture.store, secret("b").with_older(secret("a"))).await;
    assert!(matches!(rotated.begin(REQUEST).await, Ok(Begun::Replay { status: 201, .. })));
    let (replaced, _root) = handle(&fixture.store, secret("b")).await;
    let error = replaced.begin(REQUEST).await.unwrap_err();
    assert_eq!(error.code, Code::IdempotencyConflict, "never run again under another secret");
}
