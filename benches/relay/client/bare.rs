//! The client's half of the baseline: each message is one chunk of the upstream's JSON.

use std::borrow::Cow;

use anyhow::Context;
use serde::Deserialize;

use super::link::Link;
use super::turn::Turn;
use crate::scene;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Delta<'a>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
}

/// Reads one scene to its `[DONE]`.
pub async fn read(link: &mut Link, turn: &mut Turn) -> anyhow::Result<()> {
    loop {
        let message = link.receive().await?;
        turn.frame(message.len());
        if message.as_str() == "[DONE]" {
            return turn.finish(scene::TRAILER);
        }
        let chunk: Chunk = serde_json::from_str(&message).context("not a chunk")?;
        let Some(choice) = chunk.choices.first() else { continue };
        if let Some(text) = choice.delta.content.as_deref()
            && !text.is_empty()
        {
            turn.text(text)?;
        }
    }
}
