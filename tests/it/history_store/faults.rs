//! What a store makes of a server that is busy, slow, away, or does what it is told and never says so.

use std::time::Duration;

use tokio::time::Instant;
use whatif::config::DynamoDb;
use whatif::domain::ids::SceneId;
use whatif::domain::scenario::{Scenario, ScenarioChange};
use whatif::storage::StoreError;
use whatif::storage::dynamodb::{Dynamo, DynamoScenarios};
use whatif::storage::scenario::ScenarioStore;

use super::proxy::{Fate, Proxy};
use super::servers::{config, dynoxide, moto, ready};
use super::{created, scenario, scene, time, user};

const HURRIED: Duration = Duration::from_secs(2);
/// For a server that has other tests to serve, one request at a time.
const PATIENT: Duration = Duration::from_secs(15);

/// A store behind a proxy in front of `upstream`, and how long one of its attempts may take.
async fn behind(
    upstream: &str,
    attempt_timeout: Duration,
) -> (Proxy, Dynamo, DynamoScenarios, DynamoDb) {
    let proxy = Proxy::start(upstream).await;
    // Made in peace.
    let patient = config(proxy.url());
    ready(&patient).await;
    let operation_timeout = attempt_timeout * 5 / 2;
    let config = DynamoDb { attempt_timeout, operation_timeout, ..patient };
    let dynamo = super::servers::open(&config).await;
    let store = dynamo.scenarios();
    (proxy, dynamo, store, config)
}

const THROTTLING: [Fate; 3] = [
    Fate::Refused(400, "ProvisionedThroughputExceededException"),
    Fate::Refused(400, "ThrottlingException"),
    Fate::Refused(400, "RequestLimitExceeded"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_that_passes_is_not_seen_and_throttling_that_stays_is_said() {
    let (proxy, _dynamo, store, _) = behind(&dynoxide(), HURRIED).await;
    let made = created(&store, user(), 1).await;
    let mut number = 0;
    let cancelled = ["ThrottlingError", "TransactionConflict", "ProvisionedThroughputExceeded"];
    for fate in THROTTLING.into_iter().chain(cancelled.map(Fate::Cancelled)) {
        number += 1;
        let each = scene(made.id, number, (number > 1).then(|| number - 1), "Text");
        proxy.next(2, "TransactWriteItems", fate.clone());
        store.put_scene(&each).await.unwrap_or_else(|e| panic!("{fate:?}: {e}"));
        assert_eq!(proxy.seen("TransactWriteItems"), 3, "{fate:?}");

        proxy.next(usize::MAX, "TransactWriteItems", fate.clone());
        let refused = store.put_scene(&scene(made.id, 90, None, "Text")).await;
        assert!(
            matches!(refused, Err(StoreError::Throttled { retry_after: Some(_), .. })),
            "{fate:?}: {refused:?}"
        );
    }
    for fate in THROTTLING {
        proxy.next(usize::MAX, "GetItem", fate.clone());
        let refused = store.find_scenario(made.id).await;
        assert!(matches!(refused, Err(StoreError::Throttled { .. })), "{fate:?}: {refused:?}");
        assert_eq!(proxy.seen("GetItem"), 3, "as often as configured");
    }
    proxy.plan(|_| Fate::Pass);
    assert_eq!(store.list_scenes(made.id).await.unwrap().len(), 6, "each once");
    assert_eq!(store.find_scenario(made.id).await.unwrap().unwrap().scene_count, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_batch_gives_back_is_asked_for_again() {
    let (proxy, _dynamo, store, _) = behind(&dynoxide(), HURRIED).await;
    let owner = user();
    for second in 1..=4 {
        created(&store, owner, second).await;
    }
    proxy.plan(|operation| match operation {
        "BatchGetItem" | "BatchWriteItem" => Fate::OneOfBatch,
        _ => Fate::Pass,
    });
    let listed = store.list_scenarios(owner, 10, None).await.unwrap();
    assert_eq!(listed.items.len(), 4);
    assert_eq!(proxy.seen("BatchGetItem"), 4);

    let gone = &listed.items[0];
    for id in 1..=5 {
        store.put_scene(&scene(gone.id, id, None, "Text")).await.unwrap();
    }
    store.delete_scenario(gone.id, time(0)).await.unwrap();
    let month_later = time(31 * 24 * 3600);
    assert_eq!(store.purge_deleted(month_later).await.unwrap(), 1);
    assert_eq!(proxy.seen("BatchWriteItem"), 6 + 1, "its own item, five scenes; then the entry");

    // It gives back everything but one for ever: more than there are attempts.
    for second in 5..=20 {
        created(&store, owner, second).await;
    }
    let refused = store.list_scenarios(owner, 20, None).await;
    assert!(matches!(refused, Err(StoreError::Throttled { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_is_unavailable_and_back_by_itself() {
    let (mut proxy, _dynamo, store, config) = behind(&dynoxide(), HURRIED).await;
    let made = created(&store, user(), 1).await;
    let first = scene(made.id, 1, None, "Text");
    for _ in 0..2 {
        proxy.go_away().await;
        let began = Instant::now();
        for outcome in [
            store.find_scenario(made.id).await.map(drop),
            store.put_scene(&first).await,
            store.probe().await,
        ] {
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        }
        assert!(began.elapsed() < config.operation_timeout * 3, "{:?}", began.elapsed());
        proxy.come_back().await;
        store.probe().await.unwrap();
        store.put_scene(&first).await.unwrap();
    }
    assert_eq!(store.find_scenario(made.id).await.unwrap().unwrap().scene_count, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_costs_a_bounded_wait() {
    let (proxy, _dynamo, _, config) = behind(&dynoxide(), HURRIED).await;
    let config = DynamoDb {
        attempt_timeout: Duration::from_millis(200),
        operation_timeout: Duration::from_millis(500),
        ..config
    };
    let store = super::servers::open(&config).await.scenarios();
    proxy.plan(|_| Fate::Slow(Duration::from_secs(20)));
    let began = Instant::now();
    let outcome = store.probe().await;
    assert!(
        matches!(&outcome, Err(StoreError::Unavailable(why)) if why == "no answer in time"),
        "{outcome:?}"
    );
    let took = began.elapsed();
    assert!(took >= config.attempt_timeout && took < Duration::from_secs(5), "{took:?}");
    assert!(proxy.seen("GetItem") > 1, "a slow attempt is not the last one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_has_to_mend_is_said() {
    let (proxy, _dynamo, store, _) = behind(&dynoxide(), HURRIED).await;
    for (code, said) in [
        ("AccessDeniedException", "unavailable: access denied: AccessDeniedException"),
        ("UnrecognizedClientException", "unavailable: access denied: Unrecog"),
        ("ResourceNotFoundException", "unavailable: a table is missing, run `whatif migrate`"),
        ("ValidationException", "corrupt: refused as invalid: ValidationException"),
    ] {
        proxy.next(1, "GetItem", Fate::Refused(400, code));
        let error = store.probe().await.unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    proxy.next(1, "TransactWriteItems", Fate::Cancelled("ValidationError"));
    let error = store.create_scenario(&scenario(user(), 0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
}

/// Every write, each done by the server whose answer is then lost `times` times on its way.
async fn writes_without_answers(
    upstream: &str,
    fate: Fate,
    times: usize,
    attempt_timeout: Duration,
) {
    let (proxy, _dynamo, store, _) = behind(upstream, attempt_timeout).await;
    let made = scenario(user(), 1);
    let lose = |operation| proxy.next(times, operation, fate.clone());
    let once_more = |seen: &str| assert!(proxy.seen(seen) > times, "{seen} was not repeated");

    lose("TransactWriteItems");
    store.create_scenario(&made).await.expect("no false conflict");
    once_more("TransactWriteItems");
    for (id, text) in [(1, "Text".to_owned()), (2, "Rome. ".repeat(60_000))] {
        lose("TransactWriteItems");
        let parent = (id > 1).then(|| id - 1);
        store.put_scene(&scene(made.id, id, parent, &text)).await.expect("no false conflict");
        once_more("TransactWriteItems");
        let found = store.find_scenario(made.id).await.unwrap().unwrap();
        assert_eq!(
            (found.scene_count, found.current_scene),
            (id, Some(SceneId(id))),
            "counted once"
        );
    }
    let change = ScenarioChange { favorite: Some(true), ..ScenarioChange::default() };
    lose("UpdateItem");
    let changed = store.update_scenario(made.id, &change, time(9)).await.unwrap().unwrap();
    once_more("UpdateItem");
    let expected = Scenario {
        favorite: true,
        updated_at: time(9),
        scene_count: 2,
        current_scene: Some(SceneId(2)),
        ..made.clone()
    };
    assert_eq!(changed, expected);
    lose("UpdateItem");
    assert!(store.set_current_scene(made.id, SceneId(1), time(10)).await.unwrap());
    lose("TransactWriteItems");
    assert!(store.delete_scenario(made.id, time(11)).await.unwrap(), "this call deleted it");
    once_more("TransactWriteItems");
    proxy.plan(|_| Fate::Pass);
    assert!(!store.delete_scenario(made.id, time(12)).await.unwrap());
    assert_eq!(store.list_scenarios(made.owner, 9, None).await.unwrap().items, []);
}

/// Told by the transaction's token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_done_once_and_acknowledged() {
    writes_without_answers(&dynoxide(), Fate::AnswerLost, 2, PATIENT).await;
}

/// This server forgets the token, as any does after some minutes: told by what is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_recognised_without_its_token() {
    writes_without_answers(&moto(), Fate::AnswerLost, 2, PATIENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_comes_too_late_is_done_once_and_acknowledged() {
    writes_without_answers(&dynoxide(), Fate::AnswerLate(Duration::from_secs(20)), 1, HURRIED)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_never_gets_an_answer_fails_and_may_be_repeated() {
    for upstream in [dynoxide(), moto()] {
        let (proxy, _dynamo, store, _) = behind(&upstream, PATIENT).await;
        let made = created(&store, user(), 1).await;
        let first = scene(made.id, 1, None, "Text");
        proxy.next(usize::MAX, "TransactWriteItems", Fate::AnswerLost);
        for _ in 0..2 {
            let outcome = store.put_scene(&first).await;
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        }
        proxy.plan(|_| Fate::Pass);
        store.put_scene(&first).await.expect("the same scene again");
        assert_eq!(store.find_scenario(made.id).await.unwrap().unwrap().scene_count, 1);
        assert_eq!(store.list_scenes(made.id).await.unwrap(), [first]);
    }
}
