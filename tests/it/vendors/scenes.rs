//! Whole scenes, told by vendors to a reader of the running server.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::json;
use whatif::config::{self, Kind, Providers};
use whatif::domain::patch::Object;
use whatif::domain::scenario::Choice;
use whatif::domain::turn_format::render;

use super::{configured, told};
use crate::support::aimock::Aimock;
use crate::support::app::App;

const PROSE: &str = "The gate fell in the ninth year. — “Quietly”, said some. Nobody in the old city spoke of it again.";

fn scene() -> String {
    let choice = |label: &str| Choice { id: String::new(), label: label.into(), hint: None };
    render(PROSE, &[choice("Run"), choice("Stay")], &Object::new())
}

/// As a server has it that starts with these variables and no file.
fn environment(pairs: &[(&str, &str)]) -> Providers {
    let env: BTreeMap<_, _> =
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let none = tempfile::NamedTempFile::new().unwrap();
    config::load(Some(none.path()), &env).unwrap().config.providers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_all_that_it_takes() {
    let mock = Aimock::start().await;
    let usage = json!({"input_tokens": 321, "output_tokens": 45});
    let response = json!({"content": scene(), "usage": usage});
    let model = "claude-haiku-4-5";
    mock.fixtures(json!([{"match": {"model": model}, "response": response}])).await;
    let keys = [("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_BASE_URL", mock.url())];
    let mut app = App::start_with(|config| config.providers = environment(&keys)).await;
    let reader = app.reader().await;
    let id = app.scenario(&reader, "What if Rome never fell?").await["id"].clone();
    let done = |told: &serde_json::Value| !told["current_scene"].is_null();
    let scene = app.until(&reader, id.as_str().unwrap(), done).await["current_scene"].take();
    assert_eq!(
        (&scene["provider"], &scene["model"], &scene["text"]),
        (&json!("anthropic"), &json!(model), &json!(PROSE))
    );
    assert_eq!(scene["choices"].as_array().unwrap().len(), 2);
    assert_eq!(scene["usage"], usage);
    let (_, providers) = app.ask(&reader, Method::GET, "/providers", None).await;
    let names: Vec<_> = providers["text"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["anthropic", "storyteller"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_vendor_goes_on_where_another_broke_off() {
    let mock = Aimock::start().await;
    mock.fixtures(json!([
        {
            "match": {"model": "first"}, "chunkSize": 8, "latency": 40, "truncateAfterChunks": 10,
            "response": {"content": scene()},
        },
        // It tells all of it once more, as models do.
        {"match": {"model": "second"}, "response": {"content": scene()}},
    ]))
    .await;
    let mut app = App::start_with(|config| {
        for (kind, model) in [(Kind::Anthropic, "first"), (Kind::Gemini, "second")] {
            let vendor = config::Vendor { model: model.into(), ..configured(kind, mock.url()) };
            config.providers.vendors.insert(kind.as_str().into(), vendor);
        }
    })
    .await;
    let reader = app.reader().await;
    let id = app.scenario(&reader, "What if Rome never fell?").await["id"].clone();
    let done = |told: &serde_json::Value| !told["current_scene"].is_null();
    let scene = app.until(&reader, id.as_str().unwrap(), done).await["current_scene"].take();
    assert_eq!(scene["text"], PROSE);
    let authors: Vec<_> =
        scene["authors"].as_array().unwrap().iter().map(|author| &author["provider"]).collect();
    assert_eq!(authors, ["anthropic", "gemini"]);
    // Who went on was told what the reader had seen.
    let told = told(&mock.requests("second").await[0]);
    let (role, seen) = &told[2];
    assert_eq!(role, "assistant");
    assert!(!seen.is_empty() && PROSE.starts_with(&**seen), "{seen}");
    assert_eq!(seen.encode_utf16().count(), scene["authors"][1]["off"].as_u64().unwrap() as usize);
    app.stop().await;
}
