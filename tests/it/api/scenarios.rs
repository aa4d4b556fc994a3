use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::support::app::{App, Reader};
use super::{Answer, send};

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_is_begun_told_and_read_back() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let body = json!({
        "prompt": " What if Rome never fell? ", "genre": "history", "tone": "dry", "length": "short",
        "language": "en-GB", "provider": "storyteller", "seed": 7,
    });
    let begun = app.call(&reader, Method::POST, "/scenarios", Some(&body)).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    insta::assert_json_snapshot!(begun.body, {
        ".id" => "[uuid]", ".turn" => "[uuid]", ".session.epoch" => "[epoch]", ".session.head" => "[seq]",
        ".created_at" => "[time]", ".updated_at" => "[time]", ".scene_count" => "[0 or 1]",
    }, @r#"
    {
      "created_at": "[time]",
      "current_scene": null,
      "favorite": false,
      "genre": "history",
      "id": "[uuid]",
      "language": "en-GB",
      "length": "short",
      "model": null,
      "prompt": "What if Rome never fell?",
      "provider": "storyteller",
      "scene_count": "[0 or 1]",
      "seed": 7,
      "session": {
        "epoch": "[epoch]",
        "head": "[seq]"
      },
      "tags": [],
      "title": "What if Rome never fell?",
      "tone": "dry",
      "turn": "[uuid]",
      "updated_at": "[time]"
    }
    "#);
    let id = begun.body["id"].as_str().unwrap();
    assert_eq!(Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert!(begun.body["session"]["head"].as_u64().unwrap() >= 1);
    let told = app.until(&reader, id, |told| !told["current_scene"].is_null()).await;
    let scene = &told["current_scene"];
    assert_eq!((&scene["id"], &scene["parent"]), (&json!("n1"), &Value::Null));
    assert_eq!(scene["via"], json!({ "kind": "prompt" }));
    assert_eq!(scene["hash"], hash(scene["text"].as_str().unwrap()));
    assert_eq!(told["scene_count"], 1);
    let tree = app.call(&reader, Method::GET, &format!("/scenarios/{id}/tree"), None).await;
    assert_eq!((tree.status, &tree.body), (200, &json!({ "items": [scene] })));
    app.stop().await;
}

fn hash(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_wish_names_every_bad_field() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    for (name, body, fields) in [
        ("nothing to tell", json!({ "prompt": "  " }), vec!["prompt"]),
        ("too much to tell", json!({ "prompt": "x".repeat(2_001) }), vec!["prompt"]),
        (
            "everything",
            json!({
                "prompt": "\u{7}", "genre": "", "tone": "x".repeat(41), "model": " ",
                "language": "?", "provider": "nobody", "seed": 1_u64 << 53,
            }),
            vec!["prompt", "genre", "tone", "model", "language", "provider", "seed"],
        ),
    ] {
        let answer = app.call(&reader, Method::POST, "/scenarios", Some(&body)).await;
        answer.is_error(422, "invalid_request");
        assert_eq!(answer.fields(), fields, "{name}: {answer:?}");
    }
    for body in [json!({}), json!({ "prompt": 7 }), json!({ "prompt": "x", "length": "endless" })] {
        let answer = app.call(&reader, Method::POST, "/scenarios", Some(&body)).await;
        answer.is_error(422, "invalid_request");
    }
    let list = app.call(&reader, Method::GET, "/scenarios", None).await;
    assert_eq!(list.body["items"], json!([]), "a refused wish leaves nothing");
    app.stop().await;
}

async fn page(app: &App, reader: &Reader, query: &str) -> (Vec<String>, Option<String>) {
    let answer = app.call(reader, Method::GET, &format!("/scenarios{query}"), None).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ids = answer.body["items"].as_array().unwrap().iter();
    let ids = ids.map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    (ids, answer.body["next_cursor"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_newest_first_in_pages_and_never_someone_elses() {
    let mut app = App::start().await;
    let (reader, other) = (app.reader().await, app.reader().await);
    let mut ids = Vec::new();
    for number in 0..5 {
        let begun = app.scenario(&reader, &format!("What if {number}?")).await;
        ids.insert(0, begun["id"].as_str().unwrap().to_owned());
        app.scenario(&other, "What if not?").await;
    }
    assert_eq!(page(&app, &reader, "").await, (ids.clone(), None));
    let (mut seen, mut query, mut pages) = (Vec::new(), "?limit=2".to_owned(), 0);
    let foreign = loop {
        let (items, next) = page(&app, &reader, &query).await;
        seen.extend(items);
        pages += 1;
        // What is begun meanwhile is newer than every page still to come.
        app.scenario(&reader, "What if later?").await;
        match next {
            Some(cursor) => query = format!("?limit=2&cursor={cursor}"),
            None => break query,
        }
    };
    assert_eq!((seen, pages), (ids, 3));
    let list = |reader, query: String| {
        let path = format!("/scenarios{query}");
        let app = &app;
        async move { app.call(reader, Method::GET, &path, None).await }
    };
    for (name, answer, field) in [
        ("foreign", list(&other, foreign).await, "cursor"),
        ("nonsense", list(&reader, "?cursor=nonsense".into()).await, "cursor"),
        ("none", list(&reader, "?limit=0".into()).await, "limit"),
        ("too many", list(&reader, "?limit=101".into()).await, "limit"),
    ] {
        answer.is_error(422, "invalid_request");
        assert_eq!(answer.fields(), [field], "{name}");
    }
    list(&reader, "?limit=many".into()).await.is_error(400, "invalid_request");
    assert_eq!(list(&reader, "?limit=100".into()).await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_touches_only_what_it_names() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let (id, _) = app.told(&reader).await;
    let path = format!("/scenarios/{id}");
    let patch = |body: Value| {
        let (app, path, reader) = (&app, &path, &reader);
        async move { app.call(reader, Method::PATCH, path, Some(&body)).await }
    };
    let answer = patch(json!({ "title": " Rome ", "tags": ["a", "b", "A"] })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let shown = |answer: &Answer| {
        let body = &answer.body;
        (body["title"].clone(), body["tags"].clone(), body["favorite"].clone())
    };
    assert_eq!(shown(&answer), (json!("Rome"), json!(["a", "b"]), json!(false)));
    assert_eq!(answer.body["current_scene"], "n1");
    let answer = patch(json!({ "favorite": true })).await;
    assert_eq!(shown(&answer), (json!("Rome"), json!(["a", "b"]), json!(true)));
    assert_eq!(shown(&patch(json!({})).await), (json!("Rome"), json!(["a", "b"]), json!(true)));
    let bad = patch(json!({ "title": "", "tags": ["x".repeat(41)] })).await;
    bad.is_error(422, "invalid_request");
    assert_eq!(bad.fields(), ["title", "tags"]);
    let read = app.call(&reader, Method::GET, &path, None).await;
    assert_eq!(shown(&read), (json!("Rome"), json!(["a", "b"]), json!(true)));
    app.stop().await;
}

/// Every request that names a scenario, as path and body.
fn requests_about(id: &str) -> Vec<(Method, String, Option<Value>)> {
    let path = format!("/scenarios/{id}");
    vec![
        (Method::GET, path.clone(), None),
        (Method::GET, format!("{path}/tree"), None),
        (Method::GET, format!("{path}/events"), None),
        (Method::PATCH, path.clone(), Some(json!({ "favorite": true }))),
        (Method::POST, format!("{path}/turns"), Some(json!({ "kind": "jump", "scene": "n1" }))),
        (Method::POST, format!("{path}/turns/{}/stop", Uuid::now_v7()), None),
        (Method::DELETE, path, None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn someone_elses_scenario_is_not_there() {
    let mut app = App::start().await;
    let (reader, stranger) = (app.reader().await, app.reader().await);
    let (id, _) = app.told(&reader).await;
    let unknown = Uuid::now_v7().to_string();
    for (method, path, body) in requests_about(&id) {
        let answer = app.call(&stranger, method.clone(), &path, body.as_ref()).await;
        answer.is_error(404, "scenario_not_found");
        // Word for word what is said of an id that nobody has.
        let nothing = path.replace(&id, &unknown);
        let other = app.call(&stranger, method.clone(), &nothing, body.as_ref()).await;
        other.is_error(404, "scenario_not_found");
        assert_eq!(answer.body["message"], other.body["message"]);
        let nonsense = path.replace(&id, "nonsense");
        let other = app.call(&stranger, method.clone(), &nonsense, body.as_ref()).await;
        other.is_error(404, "scenario_not_found");
        let mut request = app.request(method, &path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await.is_error(401, "unauthenticated");
    }
    assert_eq!(app.call(&reader, Method::GET, &format!("/scenarios/{id}"), None).await.status, 200);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_scenario_is_gone_everywhere_and_its_turn_ends() {
    let mut app = App::start_with(|config| {
        config.providers.storyteller.words_per_second = 5.0;
    })
    .await;
    let reader = app.reader().await;
    let begun = app.scenario(&reader, "What if Rome never fell?").await;
    let id = begun["id"].as_str().unwrap();
    let generation = app.replica().state().generation.clone();
    assert_eq!(generation.running_turns(), 1);
    let gone = app.call(&reader, Method::DELETE, &format!("/scenarios/{id}"), None).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    for (method, path, body) in requests_about(id) {
        let answer = app.call(&reader, method, &path, body.as_ref()).await;
        answer.is_error(404, "scenario_not_found");
    }
    assert_eq!(page(&app, &reader, "").await, (vec![], None));
    // At this pace the scene would take a minute.
    app.until_idle().await;
    app.stop().await;
    let log = rusqlite::Connection::open(app.folder().join("events.db")).unwrap();
    for table in ["log", "event"] {
        let count = format!("SELECT count(*) FROM {table}");
        let rows: u64 = log.query_row(&count, [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}
