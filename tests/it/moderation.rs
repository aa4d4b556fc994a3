//! Moderation as operators and readers meet it: the checker against a mock server by other people and against one that
//! misbehaves, and whole replicas that use one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use whatif::boot;
use whatif::config::{Config, Moderator};
use whatif::providers::moderation::openai::{OpenAiModeration, Settings};
use whatif::providers::moderation::{ModerationProvider, Verdict};
use whatif::providers::text::{Deadline, ProviderErrorKind};

use crate::support::aimock::Aimock;
use crate::support::app::App;
use crate::support::raw_http::{RawHttp, Step};
use crate::support::socket::Socket;

const TIMEOUT: Duration = Duration::from_millis(500);
const MODEL: &str = "omni-moderation-latest";

fn checker(base_url: &str) -> Arc<dyn ModerationProvider> {
    let settings = Settings {
        api_key: Some("sk-test-key".to_owned().into()),
        base_url: Some(base_url.to_owned()),
        model: MODEL.into(),
        thresholds: [("hate".to_owned(), 0.5)].into(),
        timeout: TIMEOUT,
        max_concurrency: 4,
    };
    Arc::new(OpenAiModeration::new(settings).expect("usable settings"))
}

#[tokio::test]
async fn a_server_is_asked_and_understood() {
    let mock = Aimock::start().await;
    let checker = checker(&mock.openai_url());
    checker.probe().await.expect("alive");
    assert_eq!(checker.check("An apple.").await.unwrap(), Verdict::Allowed);
    let blocked = checker.check("She ate the forbidden fruit.").await.unwrap();
    assert_eq!(blocked, Verdict::Blocked { category: "violence".into() });
}

#[tokio::test]
async fn what_goes_wrong_has_its_class_and_its_time_and_tells_no_key() {
    use ProviderErrorKind::*;
    let answer = |status: u16, body: &str| {
        let length = body.len();
        let raw = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
        vec![Step::Raw(raw)]
    };
    let quoting = r#"{"error":{"message":"no such key: sk-test-key","code":"invalid_api_key"}}"#;
    for (name, steps, kind) in [
        ("broken", answer(500, "{}"), Overloaded { retry_after: None }),
        ("key", answer(401, quoting), Auth),
        ("limit", answer(429, "{}"), RateLimited { retry_after: None }),
        ("refused", answer(400, "{}"), BadRequest),
        ("redirect", answer(302, ""), Protocol),
        ("no verdict", answer(200, "{}"), Protocol),
        ("garbage", answer(200, "<html>hello</html>"), Protocol),
        ("silence", vec![Step::Stall], Timeout(Deadline::Whole)),
        (
            "half",
            vec![Step::Raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into()), Step::Stall],
            Timeout(Deadline::Whole),
        ),
        ("cut", vec![Step::Raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into())], Network),
        ("endless", answer(200, &"x".repeat(300_000)), Protocol),
    ] {
        let server = RawHttp::start(vec![steps]).await;
        let since = Instant::now();
        let error = checker(&server.url).check("An apple.").await.unwrap_err();
        assert_eq!(error.kind, kind, "{name}: {error}");
        assert!(since.elapsed() < TIMEOUT * 8, "{name}: {:?}", since.elapsed());
        assert!(!error.message.contains("sk-test-key"), "{error}");
        assert_eq!(server.connections(), 1, "{name}: once is enough, readers wait");
    }
    let error = checker("http://127.0.0.1:1/v1").check("An apple.").await.unwrap_err();
    assert_eq!(error.kind, Network);
}

fn listed(config: &mut Config) {
    config.moderation.provider = Moderator::Wordlist;
    config.moderation.words = vec!["forbidden fruit".into(), "moloch".into()];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_models_blocked_words_reach_nobody_and_the_story_goes_on() {
    for (name, by_server) in [("wordlist", false), ("openai", true)] {
        let mock = Aimock::start().await;
        let scene = "The garden was quiet at noon. Nobody came. She took the f\u{6f}rbidden fruit and ate.\n\
                     <<<CHOICES>>>\n1. Wait\n2. Run\n<<<STATE>>>\n{\"eaten\":true}";
        mock.fixtures(json!([{
            "match": {"model": "teller"}, "chunkSize": 5, "latency": 1, "response": {"content": scene},
        }]))
        .await;
        let url = mock.openai_url();
        let mut app = App::start_with(|config| {
            let vendor = config.providers.vendors.get_mut("openai").unwrap();
            (vendor.base_url, vendor.model) = (Some(url), "teller".into());
            listed(config);
            config.moderation.window_chars = 40;
            if by_server {
                // Its key and address are the vendor's.
                config.moderation.provider = Moderator::OpenAi;
            }
        })
        .await;
        let reader = app.reader().await;
        let begun = app.scenario(&reader, "What if there were a garden?").await;
        let id = begun["id"].as_str().unwrap();
        let mut socket = Socket::hello(&app, &reader).await;
        socket.attach(id, None).await;
        let frames = socket.until_turn_over().await;
        let events: Vec<Value> =
            frames.iter().map(|frame| serde_json::from_str(frame).unwrap()).collect();
        let failover = events.iter().find(|event| event["type"] == "turn.failover");
        let failover = failover.unwrap_or_else(|| panic!("{name}: {frames:?}"));
        assert_eq!(
            (&failover["reason"], &failover["to"]),
            (&json!("content_blocked"), &json!("storyteller"))
        );
        assert_eq!(events.last().unwrap()["type"], "turn.done", "{name}");
        let told = app.until(&reader, id, |told| !told["current_scene"].is_null()).await;
        let text = told["current_scene"]["text"].as_str().unwrap();
        assert!(text.starts_with("The garden was quiet at noon."), "{name}: {text}");
        let shown: String = events.iter().filter_map(|event| event["text"].as_str()).collect();
        assert_eq!(shown, text, "{name}");
        assert!(!text.contains("fruit") && !told.to_string().contains("eaten"), "{name}: {told}");
        let health = app.call(&reader, Method::GET, "/health", None).await.text;
        assert_eq!(health.contains("moderation.openai"), by_server, "{health}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readers_blocked_words_are_refused_everywhere_with_field_and_category() {
    let mut app = App::start_with(listed).await;
    let reader = app.reader().await;
    let (id, scene) = app.told(&reader).await;
    let one = format!("/scenarios/{id}");
    let turns = format!("{one}/turns");
    for (method, path, body, field) in [
        (Method::POST, "/scenarios", json!({ "prompt": "What if M0LOCH came?" }), "prompt"),
        (Method::POST, "/scenarios", json!({ "prompt": "What if?", "genre": "Moloch" }), "genre"),
        (
            Method::POST,
            "/scenarios",
            json!({ "prompt": "What if?", "tone": "m o l o c h" }),
            "tone",
        ),
        (
            Method::POST,
            &turns,
            json!({ "kind": "say", "scene": "n1", "text": "Forbidden fruit!" }),
            "text",
        ),
        (
            Method::POST,
            &turns,
            json!({ "kind": "edit", "scene": "n1", "text": "The forbidden fruit" }),
            "text",
        ),
        (Method::PATCH, &one, json!({ "title": "Moloch" }), "title"),
        (Method::PATCH, &one, json!({ "tags": ["rome", "Moloch"] }), "tags"),
    ] {
        let answer = app.call(&reader, method, path, Some(&body)).await;
        answer.is_error(422, "content_blocked");
        assert_eq!(answer.fields(), [field], "{answer:?}");
        assert!(answer.text.contains("wordlist") && !answer.text.contains("oloch"), "{answer:?}");
    }
    let mut socket = Socket::hello(&app, &reader).await;
    let say =
        json!({ "type": "say", "scenario": id, "scene": "n1", "text": "O Moloch!", "idem": "a" });
    let refused = socket.command(say).await;
    assert_eq!(
        (&refused["error"], &refused["retryable"]),
        (&json!("content_blocked"), &json!(false))
    );
    assert_eq!(refused["details"][0]["field"], "text");
    // Nothing of it was taken in, and a key that was refused is free.
    let told = app.call(&reader, Method::GET, &one, None).await.body;
    assert_eq!((&told["current_scene"], &told["scene_count"]), (&scene, &json!(1)));
    let list = app.call(&reader, Method::GET, "/scenarios", None).await.body;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let say =
        json!({ "type": "say", "scenario": id, "scene": "n1", "text": "O Caesar!", "idem": "a" });
    socket.turn(say).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_prompt_stays_accepted_whatever_the_list_says_later() {
    let mut app = App::start_with(listed).await;
    let reader = app.reader().await;
    let body = json!({ "prompt": "What if Baal came?" });
    let first = app.post_once(&reader, "/scenarios", "k", &body).await;
    assert_eq!(first.status, 201);
    app.until_idle().await;
    app.restart_with(|config| config.moderation.words.push("baal".into())).await;
    let again = app.post_once(&reader, "/scenarios", "k", &body).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    app.post_once(&reader, "/scenarios", "l", &body).await.is_error(422, "content_blocked");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_does_not_start_without_the_moderation_that_it_was_told_to_have() {
    let folder = tempfile::tempdir().unwrap();
    for (provider, message) in
        [(Moderator::Wordlist, "no/such/list"), (Moderator::OpenAi, "neither a key nor a base URL")]
    {
        let mut config = Config { data_dir: folder.path().to_owned(), ..Config::default() };
        config.server.port = 0;
        config.internal.enabled = false;
        config.moderation.provider = provider;
        config.moderation.words_file = Some("no/such/list".into());
        let error = boot::start(config).await.err().expect("no start");
        assert!(format!("{error:#}").contains(message), "{error:#}");
    }
}
