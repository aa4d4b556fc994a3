//! The client's half of the product: REST to make a scenario, then the `whatif.v1` socket.
//!
//! Beyond the words it checks what the wire contract promises: `seq` without a hole, `off` equal to the text so far, no
//! fail-over, and the turn's end only after all of it.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::link::{Link, Open};
use super::turn::Turn;

pub struct Api {
    pub http: reqwest::Client,
    pub port: u16,
    /// Access tokens of the bench users.
    pub tokens: Arc<Vec<String>>,
}

/// A scenario with one finished scene and the socket attached to it.
pub struct Reader {
    pub scenario: String,
    seq: u64,
    scene: String,
    choice: String,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    scenario: Option<Cow<'a, str>>,
    seq: Option<u64>,
    seq_from: Option<u64>,
    off: Option<u64>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    scene: Option<Cow<'a, str>>,
    choice: Option<Choice>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Choice {
    id: String,
}

impl Api {
    pub fn token(&self, index: usize) -> &str {
        &self.tokens[index % self.tokens.len()]
    }

    /// Makes a scenario, which starts its first turn; gives its id.
    pub async fn create(&self, index: usize) -> anyhow::Result<String> {
        let body =
            json!({ "prompt": format!("What if Rome never fell? ({index})"), "length": "short" });
        let request = self
            .http
            .post(format!("http://127.0.0.1:{}/api/v1/scenarios", self.port))
            .bearer_auth(self.token(index))
            .header("content-type", "application/json")
            .header("idempotency-key", Uuid::new_v4().to_string())
            .body(body.to_string());
        let response = request.send().await.context("create a scenario")?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "create a scenario: {status} {text}");
        let scenario: Value = serde_json::from_str(&text)?;
        Ok(scenario["id"].as_str().context("a scenario without an id")?.to_owned())
    }

    /// Opens a socket and is welcomed.
    pub async fn open(
        &self,
        index: usize,
        user: usize,
        receive_buffer: Option<u32>,
    ) -> anyhow::Result<Link> {
        let open = Open {
            port: self.port,
            path: "/api/v1/ws",
            subprotocol: Some("whatif.v1"),
            index,
            receive_buffer,
        };
        let mut link = Link::open(open).await?;
        link.send(json!({ "type": "hello", "id": "hello", "token": self.token(user) }).to_string())
            .await?;
        let message = link.receive().await.context("waiting for a welcome")?;
        let frame: Frame = serde_json::from_str(&message)?;
        ensure!(frame.kind == "welcome", "no welcome but {message}");
        Ok(link)
    }
}

/// Attaches from the log's start; the answer is read with the events.
pub async fn attach(link: &mut Link, scenario: &str) -> anyhow::Result<()> {
    link.send(json!({ "type": "attach", "id": scenario, "scenario": scenario }).to_string()).await
}

impl Reader {
    pub fn new(scenario: String) -> Self {
        Self { scenario, seq: 0, scene: String::new(), choice: String::new() }
    }

    pub async fn choose(&self, link: &mut Link) -> anyhow::Result<()> {
        ensure!(!self.choice.is_empty(), "the last scene had no choice");
        let frame = json!({
            "type": "choose", "id": "choose", "idem": Uuid::new_v4(), "scenario": self.scenario, "scene": self.scene, "choice": self.choice,
        });
        link.send(frame.to_string()).await
    }

    /// Reads one turn to its end; `turn` checks its text, none passes it by.
    pub async fn read(
        &mut self,
        link: &mut Link,
        mut turn: Option<&mut Turn>,
    ) -> anyhow::Result<()> {
        let mut units = 0;
        self.choice.clear();
        loop {
            let message = link.receive().await?;
            if let Some(turn) = &turn {
                turn.frame(message.len());
            }
            let frame: Frame = serde_json::from_str(&message)
                .with_context(|| format!("not a frame: {message}"))?;
            let Some(seq) = frame.seq.filter(|_| frame.kind != "snapshot") else {
                match &*frame.kind {
                    "error" => bail!(
                        "refused: {}: {}",
                        frame.error.unwrap_or_default(),
                        frame.message.unwrap_or_default()
                    ),
                    "gap" | "snapshot" | "going_away" => bail!("unexpected {message}"),
                    _ => continue,
                }
            };
            ensure!(
                frame.scenario.as_deref() == Some(&*self.scenario),
                "an event of another scenario: {message}"
            );
            ensure!(
                frame.seq_from.unwrap_or(seq) == self.seq + 1,
                "after event {} came {message}",
                self.seq
            );
            self.seq = seq;
            match &*frame.kind {
                "text.delta" => {
                    let text = frame.text.context("a delta without text")?;
                    ensure!(frame.off == Some(units), "{units} code units so far, then {message}");
                    units += text.encode_utf16().count() as u64;
                    if let Some(turn) = &mut turn {
                        turn.text(&text)?;
                    }
                }
                "choice" if self.choice.is_empty() => {
                    self.choice = frame.choice.context("a choice without a choice")?.id
                }
                "turn.failover" | "turn.failed" => bail!("the turn went wrong: {message}"),
                "turn.done" => {
                    self.scene = frame.scene.context("turn.done without its scene")?.into_owned();
                    return turn.map_or(Ok(()), |turn| turn.finish(""));
                }
                _ => {}
            }
        }
    }
}
