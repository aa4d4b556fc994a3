//! The chat companion from outside: answers as event streams, what they are made of, and what they cost.

mod answers;
mod ends;
mod searches;
mod server;

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use whatif::config::Config;

use super::support::app::{App, Reader};

/// An answer that has come to its end.
struct Told {
    events: Vec<Value>,
}

impl Told {
    fn of(text: &str) -> Self {
        let block = |block: &str| {
            let (kind, data) = block.split_once("\ndata: ").expect("event and data");
            let data: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(kind.strip_prefix("event: "), data["type"].as_str());
            data
        };
        let blocks =
            text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':'));
        Self { events: blocks.map(block).collect() }
    }

    fn kinds(&self) -> Vec<&str> {
        let mut kinds: Vec<&str> =
            self.events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        kinds.dedup();
        kinds
    }

    fn all(&self, kind: &str) -> Vec<&Value> {
        self.events.iter().filter(|event| event["type"] == kind).collect()
    }

    fn last(&self) -> &Value {
        self.events.last().expect("an event")
    }

    /// The text, of which no part is missing or twice there.
    fn text(&self) -> String {
        let mut text = String::new();
        for delta in self.all("text.delta") {
            let off = delta["off"].as_u64().unwrap();
            assert_eq!(off, text.encode_utf16().count() as u64, "{delta} after {text}");
            text.push_str(delta["text"].as_str().unwrap());
        }
        text
    }

    /// Steps with their outcomes.
    fn steps(&self) -> Vec<String> {
        let steps = self.all("step");
        let word = |step: &&Value, field: &str| step[field].as_str().unwrap().to_owned();
        steps
            .iter()
            .map(|step| format!("{} {}", word(step, "name"), word(step, "status")))
            .collect()
    }
}

impl App {
    fn ask_companion(&self, reader: &Reader, body: &Value) -> RequestBuilder {
        self.request(Method::POST, "/chat/stream").bearer_auth(&reader.token).json(body)
    }

    /// The answer, read to its end.
    async fn chat(&self, reader: &Reader, body: Value) -> Told {
        let response = self.ask_companion(reader, &body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let told = Told::of(&response.text().await.unwrap());
        let last = told.last()["type"].as_str().unwrap();
        assert!(matches!(last, "chat.done" | "chat.failed"), "{:?}", told.events);
        told
    }

    /// What is reserved of the reader's day, and what is spent, in tokens.
    async fn purse(&self, reader: &Reader) -> (u64, u64) {
        let user = reader.id.parse().unwrap();
        let usage = self.replica().state().generation.usage(user, 1).await.unwrap();
        (usage.days[0].taken.reserved.tokens, usage.days[0].taken.spent.tokens)
    }

    /// Waits until nothing is reserved any more; what is spent then.
    async fn settled(&self, reader: &Reader) -> u64 {
        for _ in 0..1_000 {
            if let (0, spent) = self.purse(reader).await {
                return spent;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a call was never settled");
    }
}

/// A vendor of this name at `url`, asked once, after those that are there.
fn vendor(config: &mut Config, name: &str, url: &str) {
    let defaults = whatif::config::Vendor::of(whatif::config::Kind::OpenAi);
    let vendor =
        whatif::config::Vendor { base_url: Some(format!("{url}/v1")), max_attempts: 1, ..defaults };
    if config.providers.text.first().is_some_and(|first| first == "openai") {
        config.providers.text = vec!["storyteller".into()];
    }
    let at = config.providers.text.len() - 1;
    config.providers.text.insert(at, name.into());
    config.providers.vendors.insert(name.into(), vendor);
}

/// Reads until `text` has come.
async fn read_until(response: &mut Response, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = response.chunk().await.unwrap();
        let chunk = chunk.unwrap_or_else(|| panic!("no {text} in {seen}"));
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    seen
}

/// A scenario told by the storyteller, to be talked about with others.
async fn told_scenario(app: &App, reader: &Reader) -> String {
    let wish = json!({ "prompt": "What if Rome never fell?", "seed": 7, "length": "short", "provider": "storyteller" });
    let (status, begun) = app.ask(reader, Method::POST, "/scenarios", Some(wish)).await;
    assert_eq!(status, 201, "{begun}");
    let id = begun["id"].as_str().unwrap().to_owned();
    app.until(reader, &id, |scenario| !scenario["current_scene"].is_null()).await;
    app.until_idle().await;
    id
}
