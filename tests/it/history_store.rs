//! The contract of `ScenarioStore`, called once per back end by the modules below.
//!
//! [`contract`] makes its own users and ids, so it can run on a store that others use at the same time.

mod embedded;
mod faults;
mod outage;
mod proxy;
mod servers;

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use whatif::domain::ids::{ScenarioId, SceneId, TurnId, UserId};
use whatif::domain::scenario::{
    Author, Choice, Finish, Length, Scenario, ScenarioChange, Scene, Usage, Via, content_hash,
};
use whatif::storage::StoreError;
use whatif::storage::scenario::ScenarioStore;

fn time(second: i64) -> Timestamp {
    // With nanoseconds: nothing of a time may be lost.
    Timestamp::new(1_760_000_000 + second, 123_456_789).unwrap()
}

fn user() -> UserId {
    UserId::new(time(0))
}

/// A scenario created at a second of its own; every optional field is set if `second` is even.
fn scenario(owner: UserId, second: i64) -> Scenario {
    let opt = |text: &str| (second.rem_euclid(2) == 0).then(|| text.to_owned());
    Scenario {
        id: ScenarioId::new(time(second)),
        owner,
        title: format!("Rome, take {second}"),
        prompt: "What if Rome never fell? \u{1F3DB} \"quoted\"\n".to_owned(),
        genre: opt("alternate history"),
        tone: opt(""),
        length: Length::Long,
        language: "en".to_owned(),
        provider: opt("openai"),
        model: opt("gpt-4o-mini"),
        seed: (1 << 53) - 1,
        tags: vec!["b".to_owned(), "a".to_owned(), "b".to_owned()],
        favorite: false,
        created_at: time(second),
        updated_at: time(second),
        scene_count: 0,
        current_scene: None,
    }
}

fn scene(scenario: ScenarioId, id: u32, parent: Option<u32>, text: &str) -> Scene {
    let state =
        json!({"year": 476, "ratio": 0.1, "odd": 1e-7, "tree": {"z": [1, {"a": null}], "a": ""}});
    Scene {
        scenario,
        id: SceneId(id),
        parent: parent.map(SceneId),
        via: match parent {
            None => Via::Prompt,
            Some(of) if id.is_multiple_of(5) => {
                Via::Retry { of: SceneId(of), choice: None, text: Some("again".to_owned()) }
            }
            Some(_) => Via::Choose { choice: "c1".to_owned(), text: "March north".to_owned() },
        },
        text: text.to_owned(),
        choices: vec![Choice { id: "c1".to_owned(), label: "Wait".to_owned(), hint: None }],
        state: state.as_object().unwrap().clone(),
        authors: vec![Author { provider: "storyteller".to_owned(), model: "1".to_owned(), off: 0 }],
        usage: Usage { input_tokens: 12, output_tokens: 345 },
        finish: Finish::Complete,
        hash: content_hash(text),
        turn: TurnId::new(time(i64::from(id))),
        created_at: time(i64::from(id)),
    }
}

async fn created(store: &dyn ScenarioStore, owner: UserId, second: i64) -> Scenario {
    let scenario = scenario(owner, second);
    store.create_scenario(&scenario).await.unwrap();
    scenario
}

fn ids(scenarios: &[Scenario]) -> Vec<ScenarioId> {
    scenarios.iter().map(|s| s.id).collect()
}

fn numbers(scenes: &[Scene]) -> Vec<u32> {
    scenes.iter().map(|s| s.id.0).collect()
}

/// Everything that a `ScenarioStore` promises.
pub async fn contract(store: &dyn ScenarioStore) {
    store.probe().await.unwrap();
    creates_once(store).await;
    lists_newest_first_in_pages(store).await;
    refuses_foreign_and_garbled_cursors(store).await;
    updates(store).await;
    deletes_from_every_read(store).await;
    stores_a_scene_once(store).await;
    keeps_large_scenes_whole(store).await;
    moves_the_current_scene(store).await;
    loads_paths_of_a_branched_tree(store).await;
    survives_concurrent_writers(store).await;
}

async fn creates_once(store: &dyn ScenarioStore) {
    for second in [0, 1] {
        let made = created(store, user(), second).await;
        assert_eq!(store.find_scenario(made.id).await.unwrap(), Some(made.clone()));
        store.create_scenario(&made).await.expect("the very same record again");
        let other = Scenario { title: "Another".to_owned(), ..made.clone() };
        let refused = store.create_scenario(&other).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        let stolen = Scenario { owner: user(), ..made.clone() };
        let refused = store.create_scenario(&stolen).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        let listed = store.list_scenarios(stolen.owner, 10, None).await.unwrap();
        assert_eq!(listed.items, [], "a refused creation leaves nothing behind");

        // A repeat that arrives late changes nothing of what has happened since.
        store.put_scene(&scene(made.id, 1, None, "One")).await.unwrap();
        store.create_scenario(&made).await.expect("the same creation, late");
        let found = store.find_scenario(made.id).await.unwrap().unwrap();
        assert_eq!(found.scene_count, 1);
    }
    assert_eq!(store.find_scenario(ScenarioId::new(time(0))).await.unwrap(), None);
    let huge = Scenario { title: "x".repeat(400_000), ..scenario(user(), 0) };
    let refused = store.create_scenario(&huge).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

async fn all_pages(store: &dyn ScenarioStore, owner: UserId, limit: usize) -> Vec<Vec<ScenarioId>> {
    let (mut pages, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.list_scenarios(owner, limit, cursor.as_deref()).await.unwrap();
        pages.push(ids(&page.items));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return pages;
        }
    }
}

async fn lists_newest_first_in_pages(store: &dyn ScenarioStore) {
    let (owner, other) = (user(), user());
    let mut made = Vec::new();
    // Not created in the order of their times.
    for second in [3, 1, 5, 2, 4] {
        made.push(created(store, owner, second).await);
    }
    let foreign = created(store, other, 9).await;
    made.sort_by_key(|s| std::cmp::Reverse(s.created_at));
    let newest_first = ids(&made);

    let whole = store.list_scenarios(owner, 100, None).await.unwrap();
    assert_eq!((whole.items, whole.next_cursor), (made.clone(), None));
    for limit in 1..=6 {
        let expected: Vec<_> = newest_first.chunks(limit).map(<[_]>::to_vec).collect();
        assert_eq!(all_pages(store, owner, limit).await, expected, "limit {limit}");
    }
    assert_eq!(all_pages(store, other, 2).await, [[foreign.id]]);
    assert_eq!(all_pages(store, user(), 2).await, [[]]);

    // A cursor stays good when the entry it stands on goes, and pages are filled up from what is left.
    let first = store.list_scenarios(owner, 2, None).await.unwrap();
    for gone in [1, 2] {
        assert!(store.delete_scenario(newest_first[gone], time(10)).await.unwrap());
    }
    let next = store.list_scenarios(owner, 2, first.next_cursor.as_deref()).await.unwrap();
    assert_eq!((ids(&next.items), next.next_cursor), (newest_first[3..].to_vec(), None));
}

async fn refuses_foreign_and_garbled_cursors(store: &dyn ScenarioStore) {
    let (owner, other) = (user(), user());
    for second in [1, 2] {
        created(store, owner, second).await;
        created(store, other, second).await;
    }
    let cursor = store.list_scenarios(owner, 1, None).await.unwrap().next_cursor.unwrap();
    let swapped = if cursor.starts_with('A') { "B" } else { "A" };
    for (who, bad) in [
        (other, cursor.as_str()),
        (owner, ""),
        (owner, "…"),
        (owner, "bm9uc2Vuc2U"),
        (owner, &cursor[1..]),
        (owner, &format!("{swapped}{}", &cursor[1..])),
        (owner, &cursor.repeat(100)),
    ] {
        let refused = store.list_scenarios(who, 1, Some(bad)).await;
        assert!(matches!(refused, Err(StoreError::InvalidCursor)), "{bad}: {refused:?}");
    }
}

async fn updates(store: &dyn ScenarioStore) {
    let mut made = created(store, user(), 1).await;
    let change =
        ScenarioChange { title: Some("Byzantium".to_owned()), ..ScenarioChange::default() };
    made = Scenario { title: "Byzantium".to_owned(), updated_at: time(20), ..made };
    let updated = store.update_scenario(made.id, &change, time(20)).await.unwrap();
    assert_eq!(updated, Some(made.clone()));
    let change = ScenarioChange { title: None, tags: Some(vec![]), favorite: Some(true) };
    made = Scenario { tags: vec![], favorite: true, updated_at: time(21), ..made };
    let updated = store.update_scenario(made.id, &change, time(21)).await.unwrap();
    assert_eq!(updated, Some(made.clone()));
    assert_eq!(store.find_scenario(made.id).await.unwrap(), Some(made.clone()));
    let listed = store.list_scenarios(made.owner, 1, None).await.unwrap();
    assert_eq!(listed.items, [made.clone()]);

    let nowhere = ScenarioId::new(time(0));
    assert_eq!(store.update_scenario(nowhere, &change, time(22)).await.unwrap(), None);
    assert_eq!(store.find_scenario(nowhere).await.unwrap(), None, "an update creates nothing");
    let huge = ScenarioChange { tags: Some(vec!["x".repeat(400_000)]), ..change };
    let refused = store.update_scenario(made.id, &huge, time(23)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
}

async fn deletes_from_every_read(store: &dyn ScenarioStore) {
    let owner = user();
    let kept = created(store, owner, 1).await;
    let gone = created(store, owner, 2).await;
    let first = scene(gone.id, 1, None, "One");
    store.put_scene(&first).await.unwrap();
    assert!(store.delete_scenario(gone.id, time(30)).await.unwrap());

    assert_eq!(store.find_scenario(gone.id).await.unwrap(), None);
    assert_eq!(all_pages(store, owner, 1).await, [[kept.id]]);
    assert_eq!(store.find_scene(gone.id, SceneId(1)).await.unwrap(), None);
    assert_eq!(store.list_scenes(gone.id).await.unwrap(), []);
    assert_eq!(store.load_path(gone.id, SceneId(1)).await.unwrap(), []);
    let change = ScenarioChange { favorite: Some(true), ..ScenarioChange::default() };
    assert_eq!(store.update_scenario(gone.id, &change, time(31)).await.unwrap(), None);
    assert!(!store.set_current_scene(gone.id, SceneId(1), time(31)).await.unwrap());
    assert!(!store.delete_scenario(gone.id, time(31)).await.unwrap(), "only once");
    assert!(!store.delete_scenario(ScenarioId::new(time(0)), time(31)).await.unwrap());
    for late in [first, scene(gone.id, 2, Some(1), "Two")] {
        let refused = store.put_scene(&late).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    }
    let refused = store.create_scenario(&gone).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(all_pages(store, owner, 1).await, [[kept.id]]);
}

async fn stores_a_scene_once(store: &dyn ScenarioStore) {
    let made = created(store, user(), 1).await;
    let first = scene(made.id, 1, None, "Rome stands. \u{1F3DB}\n\t\"\\");
    for _ in 0..3 {
        store.put_scene(&first).await.expect("again and again");
        let found = store.find_scenario(made.id).await.unwrap().unwrap();
        assert_eq!((found.scene_count, found.current_scene), (1, Some(SceneId(1))));
        assert_eq!(found.updated_at, first.created_at);
    }
    assert_eq!(store.find_scene(made.id, SceneId(1)).await.unwrap(), Some(first.clone()));

    let other = Scene { turn: TurnId::new(time(50)), ..first.clone() };
    let refused = store.put_scene(&other).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    let nowhere = scene(ScenarioId::new(time(0)), 1, None, "Lost");
    let refused = store.put_scene(&nowhere).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    assert_eq!(store.find_scene(nowhere.scenario, SceneId(1)).await.unwrap(), None);
    let cycle = store.put_scene(&scene(made.id, 3, Some(3), "Loop")).await;
    assert!(matches!(cycle, Err(StoreError::Conflict(_))), "{cycle:?}");

    let second = scene(made.id, 2, Some(1), "Two");
    store.put_scene(&second).await.unwrap();
    store.put_scene(&first).await.expect("a late repeat");
    let found = store.find_scenario(made.id).await.unwrap().unwrap();
    assert_eq!((found.scene_count, found.current_scene), (2, Some(SceneId(2))), "left alone");
    assert_eq!(store.list_scenes(made.id).await.unwrap(), [first, second]);
    assert_eq!(store.find_scene(made.id, SceneId(3)).await.unwrap(), None);
}

async fn keeps_large_scenes_whole(store: &dyn ScenarioStore) {
    let made = created(store, user(), 1).await;
    // Characters of one to four bytes, so that some chunk ends inside one.
    let large = "Rome's \"é\u{2014}\u{1F3DB}\"\n".repeat(30_000);
    assert!(large.len() > 400_000);
    let stored = scene(made.id, 2, Some(1), &large);
    for each in [&scene(made.id, 1, None, "small"), &stored, &scene(made.id, 3, Some(2), "")] {
        store.put_scene(each).await.unwrap();
    }
    store.put_scene(&stored).await.expect("a large scene again");
    assert!(store.find_scene(made.id, SceneId(2)).await.unwrap() == Some(stored.clone()));
    let listed = store.list_scenes(made.id).await.unwrap();
    assert!(numbers(&listed) == [1, 2, 3] && listed[1] == stored);
    let path = store.load_path(made.id, SceneId(3)).await.unwrap();
    assert!(numbers(&path) == [1, 2, 3] && path[1] == stored);

    let changed = Scene { text: large.replacen("Rome", "Roma", 1), ..stored };
    let refused = store.put_scene(&changed).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    // Nearly as large as can be, and a little larger: nothing of that is left.
    store.put_scene(&scene(made.id, 4, Some(3), &"x".repeat(1_000_000))).await.unwrap();
    for size in [1024 * 1024, 4_000_000] {
        let huge = scene(made.id, 5, Some(4), &"x".repeat(size));
        let refused = store.put_scene(&huge).await;
        assert!(
            matches!(refused, Err(StoreError::TooLarge { size_bytes, max_bytes }) if size_bytes > max_bytes),
            "{refused:?}"
        );
    }
    assert_eq!(numbers(&store.list_scenes(made.id).await.unwrap()), [1, 2, 3, 4]);
    assert_eq!(store.find_scenario(made.id).await.unwrap().unwrap().scene_count, 4);
}

async fn moves_the_current_scene(store: &dyn ScenarioStore) {
    let made = created(store, user(), 1).await;
    for id in 1..=2 {
        store.put_scene(&scene(made.id, id, (id > 1).then_some(1), "Text")).await.unwrap();
    }
    assert!(store.set_current_scene(made.id, SceneId(1), time(60)).await.unwrap());
    let found = store.find_scenario(made.id).await.unwrap().unwrap();
    assert_eq!((found.current_scene, found.updated_at), (Some(SceneId(1)), time(60)));
    assert_eq!(found.scene_count, 2);
    assert!(!store.set_current_scene(made.id, SceneId(3), time(61)).await.unwrap());
    let nowhere = ScenarioId::new(time(0));
    assert!(!store.set_current_scene(nowhere, SceneId(1), time(61)).await.unwrap());
    assert_eq!(store.find_scenario(made.id).await.unwrap().unwrap(), found);
}

async fn loads_paths_of_a_branched_tree(store: &dyn ScenarioStore) {
    let made = created(store, user(), 1).await;
    // A long line (1, 2, 4, 6, …, 80) and branches of all lengths beside it.
    let parent = |id: u32| match id {
        1 => None,
        even if even.is_multiple_of(2) => Some((even - 2).max(1)),
        odd => Some(odd / 3),
    };
    for id in 1..=80 {
        store.put_scene(&scene(made.id, id, parent(id), "Text")).await.unwrap();
    }
    for leaf in [1, 2, 3, 9, 78, 79, 80] {
        let mut expected: Vec<u32> = std::iter::successors(Some(leaf), |id| parent(*id)).collect();
        expected.reverse();
        let path = store.load_path(made.id, SceneId(leaf)).await.unwrap();
        assert_eq!(numbers(&path), expected);
    }
    assert_eq!(store.load_path(made.id, SceneId(81)).await.unwrap(), []);
    let all = store.list_scenes(made.id).await.unwrap();
    assert_eq!(numbers(&all), (1..=80).collect::<Vec<_>>());
}

async fn survives_concurrent_writers(store: &dyn ScenarioStore) {
    let made = created(store, user(), 1).await;
    store.put_scene(&scene(made.id, 1, None, "Root")).await.unwrap();
    let scenes: Vec<_> = (2..=13).map(|id| scene(made.id, id, Some(1), "Branch")).collect();
    // Each one twice, so that repeats race as well.
    let stored = join_all(scenes.iter().chain(&scenes).map(|s| store.put_scene(s))).await;
    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
    assert_eq!(store.find_scenario(made.id).await.unwrap().unwrap().scene_count, 13);
    assert_eq!(store.list_scenes(made.id).await.unwrap().len(), 13);

    let id = ScenarioId::new(time(0));
    let rivals: Vec<_> = (0..8).map(|n| Scenario { id, ..scenario(user(), n) }).collect();
    let outcomes = join_all(rivals.iter().map(|s| store.create_scenario(s))).await;
    let won: Vec<_> = (0..8).filter(|n| outcomes[*n].is_ok()).collect();
    let [winner] = won[..] else { panic!("one winner, not {outcomes:?}") };
    for (n, rival) in rivals.iter().enumerate() {
        let listed = store.list_scenarios(rival.owner, 1, None).await.unwrap();
        assert_eq!(listed.items.len(), usize::from(n == winner));
    }
    let deleted = join_all((0..4).map(|n| store.delete_scenario(id, time(n)))).await;
    assert_eq!(deleted.iter().filter(|gone| matches!(gone, Ok(true))).count(), 1, "{deleted:?}");
}
