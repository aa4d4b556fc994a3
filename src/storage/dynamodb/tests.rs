//! What the contract cannot show from outside: retries against a scripted server, damage, races between two reads.

mod pages;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_sdk_dynamodb::config::{HttpClient, RuntimeComponents};
use aws_sdk_dynamodb::error::ProvideErrorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use uuid::Uuid;

use super::item::{key, number, text};
use super::row::{self, META};
use super::{Access, Dynamo, connect, tables};
use crate::config::{AppEnv, DynamoDb};
use crate::domain::ids::{ScenarioId, SceneId, TurnId, UserId};
use crate::domain::scenario::{
    Author, Finish, Length, Scenario, ScenarioChange, Scene, Usage, Via,
};
use crate::storage::StoreError;
use crate::storage::scenario::ScenarioStore;

const NOW: Timestamp = Timestamp::constant(1_760_000_000, 0);

fn scenario(owner: UserId, second: i64) -> Scenario {
    Scenario {
        id: ScenarioId::new(NOW + SignedDuration::from_secs(second)),
        owner,
        title: "Rome".to_owned(),
        prompt: "What if Rome never fell?".to_owned(),
        genre: None,
        tone: None,
        length: Length::Medium,
        language: "en".to_owned(),
        provider: None,
        model: None,
        seed: 7,
        tags: Vec::new(),
        favorite: false,
        created_at: NOW,
        updated_at: NOW,
        scene_count: 0,
        current_scene: None,
    }
}

fn scene(scenario: ScenarioId, id: u32, parent: Option<u32>, text: &str) -> Scene {
    Scene {
        scenario,
        id: SceneId(id),
        parent: parent.map(SceneId),
        via: Via::Prompt,
        text: text.to_owned(),
        choices: Vec::new(),
        state: serde_json::Map::new(),
        authors: vec![Author { provider: "p".to_owned(), model: "m".to_owned(), off: 0 }],
        usage: Usage::default(),
        finish: Finish::Complete,
        hash: "h".to_owned(),
        turn: TurnId(Uuid::from_u128(3)),
        created_at: NOW,
    }
}

async fn embedded() -> (Dynamo, Access, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let dynamo = Dynamo::embedded(&dir.path().join("history.db")).await.unwrap();
    dynamo.ensure_tables().await.unwrap();
    let access = dynamo.access(&tables::HISTORY);
    (dynamo, access, dir)
}

/// A server that is whatever `http` says.
fn through(http: impl HttpClient + 'static) -> Dynamo {
    let config = DynamoDb::default();
    let builder = connect::to_server(&config, "http://server.invalid", "local").http_client(http);
    let client = connect::client(&config, builder);
    Dynamo::with_client(&config, AppEnv::Development, client)
}

/// A server that gives its answers in turn, then the last one again and again, and counts the requests.
#[derive(Debug, Clone)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    asked: Arc<Mutex<usize>>,
}

impl HttpConnector for Scripted {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        *self.asked.lock().unwrap() += 1;
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.len() {
            1 => answers[0],
            _ => answers.pop_front().unwrap(),
        };
        HttpConnectorFuture::ready(match answer {
            (0, reason) => Err(ConnectorError::io(reason.into())),
            (status, body) => {
                Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body)))
            }
        })
    }
}

impl HttpClient for Scripted {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

const CONFLICT: (u16, &str) = (
    400,
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException","Message":"cancelled","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict","Message":"busy"}]}"#,
);
const THROTTLED: (u16, &str) = (
    400,
    r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#,
);
const BROKEN: (u16, &str) =
    (500, r#"{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"no"}"#);
const DONE: (u16, &str) = (200, "{}");

#[tokio::test(start_paused = true)]
async fn what_passes_is_retried_and_what_stays_is_a_typed_error() {
    type Check = fn(&Result<(), StoreError>) -> bool;
    let ok: Check = Result::is_ok;
    let throttled: Check =
        |r| matches!(r, Err(e @ StoreError::Throttled { .. }) if e.is_dependency_failure());
    let unavailable: Check = |r| matches!(r, Err(StoreError::Unavailable(_)));
    for (name, answers, expected, requests) in [
        ("conflicts that pass", vec![CONFLICT, CONFLICT, CONFLICT, DONE], ok, 4),
        ("a conflict that stays", vec![CONFLICT], throttled, 9),
        ("throttling that passes", vec![THROTTLED, DONE], ok, 2),
        ("throttling that stays", vec![THROTTLED], throttled, 3),
        ("an error that passes", vec![BROKEN, DONE], ok, 2),
        ("an error that stays", vec![BROKEN], unavailable, 3),
        ("no connection", vec![(0, "refused")], unavailable, 3),
        ("no DynamoDB at all", vec![(200, "<html>")], unavailable, 1),
    ] {
        let server =
            Scripted { answers: Arc::new(Mutex::new(answers.into())), asked: Arc::default() };
        let store = through(server.clone()).scenarios();
        let outcome = store.create_scenario(&scenario(UserId::new(NOW), 0)).await;
        assert!(expected(&outcome), "{name}: {outcome:?}");
        assert_eq!(*server.asked.lock().unwrap(), requests, "{name}");
    }
}

#[derive(Debug, Clone)]
struct Silent;

impl HttpConnector for Silent {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(std::future::pending())
    }
}

impl HttpClient for Silent {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_costs_a_bounded_wait() {
    let store = through(Silent).scenarios();
    let began = tokio::time::Instant::now();
    let outcome = store.find_scenario(ScenarioId::new(NOW)).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(began.elapsed() <= DynamoDb::default().operation_timeout, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_deletion_between_the_two_reads_of_a_list_makes_no_short_page() {
    let (dynamo, access, _dir) = embedded().await;
    let store = dynamo.scenarios();
    let owner = UserId::new(NOW);
    let old = scenario(owner, 1);
    store.create_scenario(&old).await.unwrap();
    // Newer pointers whose scenarios are gone, as the second read of a list would find them.
    for second in 2..7 {
        let gone = ScenarioId::new(NOW + SignedDuration::from_secs(second));
        let pointer = access.put(key(row::owner_pk(owner), row::listed_sk(gone)), None).unwrap();
        access.transact(vec![pointer]).await.unwrap();
    }
    let page = store.list_scenarios(owner, 2, None).await.unwrap();
    assert_eq!((page.items, page.next_cursor), (vec![old], None));
}

#[tokio::test]
async fn damage_is_reported_as_corrupt_never_as_another_story() {
    let (dynamo, access, _dir) = embedded().await;
    let store = dynamo.scenarios();
    let made = scenario(UserId::new(NOW), 0);
    store.create_scenario(&made).await.unwrap();
    store.put_scene(&scene(made.id, 1, None, &"x".repeat(250_000))).await.unwrap();
    store.put_scene(&scene(made.id, 3, Some(2), "an orphan")).await.unwrap();
    let pk = row::scenario_pk(made.id);

    let orphan = store.load_path(made.id, SceneId(3)).await.unwrap_err();
    assert!(matches!(orphan, StoreError::Corrupt(_)), "{orphan}");

    access.batch_delete(vec![key(&pk, "N#0000000001#C#001")]).await.unwrap();
    for outcome in [
        store.find_scene(made.id, SceneId(1)).await.map(|_| ()),
        store.list_scenes(made.id).await.map(|_| ()),
        store.load_path(made.id, SceneId(1)).await.map(|_| ()),
    ] {
        assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{outcome:?}");
    }

    let later =
        access.update(key(&pk, META), "attribute_exists(pk)", "SET v = :v", [(":v", number(2))]);
    access.transact(vec![later.unwrap()]).await.unwrap();
    let outcome = store.find_scenario(made.id).await;
    assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{outcome:?}");
}

/// A path that leaps over branches makes pages of four items; the root's five pieces take two of them.
#[tokio::test]
async fn a_scene_larger_than_a_page_of_its_path_is_read_across_pages() {
    let (dynamo, _access, _dir) = embedded().await;
    let store = dynamo.scenarios();
    let made = scenario(UserId::new(NOW), 0);
    store.create_scenario(&made).await.unwrap();
    let root = scene(made.id, 1, None, &"x".repeat(450_000));
    store.put_scene(&root).await.unwrap();
    for id in 2..=70 {
        let parent = match id {
            70 => 30,
            30 => 14,
            14 => 6,
            _ => 1,
        };
        store.put_scene(&scene(made.id, id, Some(parent), "Text")).await.unwrap();
    }
    let path = store.load_path(made.id, SceneId(70));
    let path =
        tokio::time::timeout(std::time::Duration::from_secs(30), path).await.unwrap().unwrap();
    assert_eq!(path.iter().map(|s| s.id.0).collect::<Vec<_>>(), [1, 6, 14, 30, 70]);
    assert!(path[0] == root);
}

#[tokio::test]
async fn a_purge_takes_what_is_due_and_nothing_else() {
    let (dynamo, access, _dir) = embedded().await;
    let store = dynamo.scenarios();
    let owner = UserId::new(NOW);
    let [kept, due, later] = [1, 2, 3].map(|second| scenario(owner, second));
    let day = SignedDuration::from_hours(24);
    for each in [&kept, &due, &later] {
        store.create_scenario(each).await.unwrap();
        for id in 1..=30 {
            store.put_scene(&scene(each.id, id, None, "Text")).await.unwrap();
        }
    }
    store.delete_scenario(due.id, NOW).await.unwrap();
    store.delete_scenario(later.id, NOW + day).await.unwrap();

    let listed = access
        .query()
        .key_condition_expression("pk = :pk")
        .expression_attribute_values(":pk", text(row::owner_pk(owner)));
    assert_eq!(access.page(listed, None).await.unwrap().0.len(), 1, "the list forgets at once");

    assert_eq!(store.purge_deleted(NOW + day * 29).await.unwrap(), 0);
    assert_eq!(
        store.purge_deleted(NOW + day * 30 + SignedDuration::from_secs(1)).await.unwrap(),
        1
    );
    assert_eq!(
        store.purge_deleted(NOW + day * 30 + SignedDuration::from_secs(1)).await.unwrap(),
        0
    );
    for (id, left) in [(kept.id, 31), (due.id, 0), (later.id, 31)] {
        let partition = access
            .query()
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", text(row::scenario_pk(id)));
        assert_eq!(access.page(partition, None).await.unwrap().0.len(), left);
    }
    // Nor does a time to live that has run out take anything with it but the deleted scenarios' own items.
    dynamo.sweep_expired().await.unwrap();
    assert_eq!(store.list_scenes(kept.id).await.unwrap().len(), 30);
}

#[tokio::test]
async fn the_engine_answers_no_scan() {
    let (dynamo, access, _dir) = embedded().await;
    let scan = dynamo.client.scan().table_name(&access.table).send().await;
    assert_eq!(scan.unwrap_err().code(), Some("UnsupportedOperation"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_may_open_the_file_and_make_the_tables_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    let owner = UserId::new(NOW);
    let each = |second: i64| {
        let file = file.clone();
        tokio::spawn(async move {
            let dynamo = Dynamo::embedded(&file).await?;
            for _ in 0..2 {
                dynamo.ensure_tables().await.unwrap();
            }
            dynamo.scenarios().create_scenario(&scenario(owner, second)).await
        })
    };
    for opened in futures::future::join_all((0..4).map(each)).await {
        opened.unwrap().unwrap();
    }
    let store = Dynamo::embedded(&file).await.unwrap().scenarios();
    assert_eq!(store.list_scenarios(owner, 10, None).await.unwrap().items.len(), 4);
}

#[tokio::test]
async fn a_file_that_cannot_serve_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Dynamo::embedded(&dir.path().join("no/such/folder.db")).await;
    assert!(matches!(missing, Err(StoreError::Unavailable(_))), "{missing:?}");
    let folder = Dynamo::embedded(dir.path()).await;
    assert!(matches!(folder, Err(StoreError::Unavailable(_))), "{folder:?}");
    let garbage = dir.path().join("garbage.db");
    std::fs::write(&garbage, "no database ".repeat(1000)).unwrap();
    let garbage = Dynamo::embedded(&garbage).await;
    assert!(matches!(garbage, Err(StoreError::Corrupt(_))), "{garbage:?}");
}

#[tokio::test]
async fn a_call_before_the_tables_are_made_is_unavailable_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = Dynamo::embedded(&dir.path().join("history.db")).await.unwrap().scenarios();
    let outcome = store.find_scenario(ScenarioId::new(NOW)).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let change = ScenarioChange::default();
    let outcome = store.update_scenario(ScenarioId::new(NOW), &change, NOW).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}

/// Rows live longer than any version of this code: whoever changes the layout has to raise `row::VERSION`.
#[test]
fn the_layout_of_rows_is_what_it_was() {
    let id = ScenarioId(Uuid::from_u128(1));
    let items = row::scene_items(&scene(id, 12, Some(7), "Text")).unwrap();
    let mut expected = key("S#00000000-0000-0000-0000-000000000001", "N#0000000012");
    expected.insert("v".to_owned(), number(1));
    expected.insert("pieces".to_owned(), number(1));
    expected.insert(
        "data".to_owned(),
        text(
            r#"{"scenario":"00000000-0000-0000-0000-000000000001","id":"n12","parent":"n7","via":{"kind":"prompt"},"text":"Text","choices":[],"state":{},"authors":[{"provider":"p","model":"m","off":0}],"usage":{"input_tokens":0,"output_tokens":0},"finish":"complete","hash":"h","turn":"00000000-0000-0000-0000-000000000003","created_at":"2025-10-09T08:53:20Z"}"#,
        ),
    );
    assert_eq!(items, [expected]);
    let read = row::scenario_from(row::scenario_item(&scenario(UserId(Uuid::nil()), 0)).unwrap());
    assert_eq!(read.unwrap().unwrap().owner, UserId(Uuid::nil()));
}
