//! The shortest way through everything: an account, a scenario, its first scene, a choice, a restart.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::support::app::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_story_is_begun_and_goes_on_after_a_restart() {
    let mut app = App::start().await;
    let reader = app.reader().await;
    let scenario = app.scenario(&reader, "What if Rome never fell?").await;
    let path = format!("/scenarios/{}", scenario["id"].as_str().unwrap());
    let scene = until_scene(&app, &reader, &path, "n1").await;
    let choice = scene["choices"][0]["id"].clone();
    app.restart().await;
    let body = json!({ "kind": "choose", "scene": "n1", "choice": choice });
    let (status, answer) =
        app.ask(&reader, Method::POST, &format!("{path}/turns"), Some(body)).await;
    assert_eq!(status, 202, "{answer}");
    let next = until_scene(&app, &reader, &path, "n2").await;
    assert_eq!(next["parent"], "n1");
    assert_eq!(next["via"]["choice"], choice);
    app.stop().await;
}

async fn until_scene(
    app: &App,
    reader: &super::support::app::Reader,
    path: &str,
    scene: &str,
) -> serde_json::Value {
    for _ in 0..1_000 {
        let (status, scenario) = app.ask(reader, Method::GET, path, None).await;
        assert_eq!(status, 200);
        if scenario["current_scene"]["id"] == scene {
            return scenario["current_scene"].clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{scene} was never told");
}
