//! A reader of one scenario that says when each event arrived.
//!
//! It checks what the wire contract promises of any replica at any time: `seq` without a hole or a repetition, `off`
//! equal to the text so far, also across owners.

use std::borrow::Cow;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::api::{self, Api};
use crate::clock;
use crate::link::Link;

pub struct Watcher {
    link: Link,
    pub scenario: String,
    seq: u64,
    /// The last scene, and its first choice.
    scene: String,
    choice: String,
}

/// What arrived in one frame.
pub struct Seen<'a> {
    /// In microseconds of the run's clock.
    pub at: u64,
    /// The events that the frame stands for: more than one if a slow reader's were merged.
    pub from: u64,
    pub to: u64,
    /// A delta's.
    pub text: Option<&'a str>,
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
}

#[derive(Deserialize)]
struct Choice {
    id: String,
}

impl Watcher {
    /// Opens a socket at a replica and attaches it from the log's start. `index` is the socket's, `user` the owner's.
    pub async fn open(
        api: &Api,
        scenario: &str,
        index: usize,
        user: usize,
    ) -> anyhow::Result<Self> {
        let mut link = api.open(index, user, None).await?;
        api::attach(&mut link, scenario).await?;
        Ok(Self {
            link,
            scenario: scenario.into(),
            seq: 0,
            scene: String::new(),
            choice: String::new(),
        })
    }

    /// Asks for the next scene; the answer is read with the events.
    pub async fn choose(&mut self) -> anyhow::Result<()> {
        ensure!(!self.choice.is_empty(), "the last scene had no choice");
        let frame = json!({
            "type": "choose", "id": "choose", "idem": Uuid::new_v4(), "scenario": self.scenario, "scene": self.scene, "choice": self.choice,
        });
        self.link.send(frame.to_string()).await
    }

    /// Reads one turn to its end.
    ///
    /// # Errors
    /// At the first event that should not be, and when `each` gives one.
    pub async fn turn(
        &mut self,
        mut each: impl FnMut(Seen<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut units = 0;
        self.choice.clear();
        loop {
            let message = self.link.receive().await?;
            let at = clock::micros();
            let frame: Frame = serde_json::from_str(&message)
                .with_context(|| format!("not a frame: {message}"))?;
            let Some(seq) = frame.seq.filter(|_| frame.kind != "snapshot") else {
                match &*frame.kind {
                    "error" | "gap" | "snapshot" | "going_away" => bail!("unexpected {message}"),
                    _ => continue,
                }
            };
            ensure!(frame.scenario.as_deref() == Some(&*self.scenario), "not asked for: {message}");
            let from = frame.seq_from.unwrap_or(seq);
            ensure!(from == self.seq + 1, "after event {} came {message}", self.seq);
            self.seq = seq;
            let text = if frame.kind == "text.delta" { frame.text.as_deref() } else { None };
            if let Some(text) = text {
                ensure!(frame.off == Some(units), "{units} code units so far, then {message}");
                units += text.encode_utf16().count() as u64;
            }
            each(Seen { at, from, to: seq, text })?;
            match &*frame.kind {
                "choice" if self.choice.is_empty() => {
                    self.choice = frame.choice.context("a choice without a choice")?.id;
                }
                "turn.failover" | "turn.failed" => bail!("the turn went wrong: {message}"),
                "turn.done" => {
                    self.scene = frame.scene.context("turn.done without its scene")?.into_owned();
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}
