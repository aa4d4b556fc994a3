//! The engine in this process: the contract, and what it promises about its file.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use whatif::domain::ids::{ScenarioId, SceneId};
use whatif::domain::scenario::content_hash;
use whatif::storage::dynamodb::{Dynamo, DynamoScenarios};
use whatif::storage::scenario::ScenarioStore;

use super::{contract, created, ids, scene, user};

async fn open(file: &Path) -> DynamoScenarios {
    let dynamo = Dynamo::embedded(file).await.unwrap();
    dynamo.ensure_tables().await.unwrap();
    dynamo.scenarios()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_engine_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    contract(&open(&dir.path().join("history.db")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_file_survives_closing_and_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    let store = open(&file).await;
    let made = created(&store, user(), 1).await;
    let first = scene(made.id, 1, None, &"Rome. ".repeat(40_000));
    store.put_scene(&first).await.unwrap();
    let before = store.find_scenario(made.id).await.unwrap();
    drop(store);

    let store = open(&file).await;
    assert_eq!(store.find_scenario(made.id).await.unwrap(), before);
    assert!(store.list_scenes(made.id).await.unwrap() == [first]);
    assert_eq!(ids(&store.list_scenarios(made.owner, 5, None).await.unwrap().items), [made.id]);
}

const WRITER_FILE: &str = "WHATIF_TEST_WRITER_FILE";
const WRITER_SCENARIO: &str = "WHATIF_TEST_WRITER_SCENARIO";

/// The process that is killed below: writes scenes until then and tells each one that is stored. Without its
/// environment there is nothing to do.
#[tokio::test]
async fn writer() {
    let Some(file) = std::env::var_os(WRITER_FILE) else { return };
    let id: ScenarioId = std::env::var(WRITER_SCENARIO).unwrap().parse().unwrap();
    let store = open(Path::new(&file)).await;
    for n in 1.. {
        let parent = (n > 1).then(|| n - 1);
        store.put_scene(&scene(id, n, parent, &"Rome. ".repeat(30_000))).await.unwrap();
        eprintln!("stored {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_file_survives_a_killed_writer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.db");
    let store = open(&file).await;
    let made = created(&store, user(), 1).await;
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "history_store::embedded::writer", "--nocapture"])
        .env(WRITER_FILE, &file)
        .env(WRITER_SCENARIO, made.id.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    let told = BufReader::new(writer.stderr.take().unwrap());
    for line in told.lines().map_while(Result::ok) {
        if let Some(n) = line.strip_prefix("stored ") {
            acknowledged = n.parse().unwrap();
        }
        if acknowledged == 5 {
            writer.kill().unwrap(); // SIGKILL; what it still had told is read to the end
        }
    }
    writer.wait().unwrap();
    assert!(acknowledged >= 5);

    // Both the process that had the file open all along and a new one see every acknowledged scene, and no half.
    for store in [store, open(&file).await] {
        let scenes = store.list_scenes(made.id).await.unwrap();
        let count = u32::try_from(scenes.len()).unwrap();
        assert!(count == acknowledged || count == acknowledged + 1, "{count} of {acknowledged}");
        assert!(scenes.iter().all(|s| s.hash == content_hash(&s.text)));
        let found = store.find_scenario(made.id).await.unwrap().unwrap();
        assert_eq!((found.scene_count, found.current_scene), (count, Some(SceneId(count))));
        let next = scene(made.id, count + 1, Some(count), "The story goes on.");
        store.put_scene(&next).await.unwrap();
        acknowledged = count + 1;
    }
}
