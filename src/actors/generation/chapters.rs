//! Chapters: what a language model is told of the early scenes of a long story, in short.
//!
//! Every eight scenes of a way through the tree are one chapter. It is summed up once, in the background, by the same
//! providers and out of the same budget as the scenes, and kept in the cache under its last scene: whatever branches
//! off later shares it, and no other branch ever sees it. A chapter that nobody has summed up yet costs nothing but
//! detail: its scenes are told by their first sentences.

use std::collections::HashSet;
use std::fmt::Write;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::Instrument;

use super::GenerationDeps;
use super::text::TextHandle;
use crate::actors::budget::Payer;
use crate::actors::cache::CacheHandle;
use crate::domain::budget::estimate_tokens;
use crate::domain::ids::{ScenarioId, SceneId, TurnId};
use crate::domain::scenario::{Scenario, Scene, Usage};
use crate::providers::prompt::{self, Message};
use crate::providers::text::{Chapter, Talk, TextChunk, TextStream};

/// Scenes of a chapter.
const SCENES: usize = 8;
/// The newest scenes belong to no chapter yet.
const NEWEST: usize = 4;
/// A story that comes to less than this is sent in full anyway.
const LONG_TOKENS: u64 = 4_000;
/// Longest answer asked for, and longest one kept.
const MAX_TOKENS: u32 = 400;
const MAX_CHARS: usize = 2_400;
/// Longest that one call may take.
const DEADLINE: Duration = Duration::from_secs(60);
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Chapters of this replica that are summed up at the same time; more wait for the next turn.
const AT_ONCE: usize = 16;

pub struct Chapters {
    cache: CacheHandle,
    permits: Arc<Semaphore>,
    under_way: Mutex<HashSet<(ScenarioId, SceneId)>>,
}

impl Chapters {
    pub fn new(cache: CacheHandle) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self { cache, permits, under_way: Mutex::default() }
    }

    /// The chapters of a way that have been summed up.
    pub async fn find(&self, scenario: ScenarioId, path: &[Scene]) -> Vec<Chapter> {
        let look = |scenes: Range<usize>| async move {
            let kept = self.cache.find(&key(scenario, path[scenes.end - 1].id)).await.ok()??;
            let summary = String::from_utf8(kept.into()).ok()?;
            Some(Chapter { scenes, summary })
        };
        join_all(chapters_of(path).map(look)).await.into_iter().flatten().collect()
    }

    fn begin(self: &Arc<Self>, scenario: ScenarioId, last: SceneId) -> Option<UnderWay> {
        let place = (scenario, last);
        let new = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(place);
        new.then(|| UnderWay { chapters: Arc::clone(self), place })
    }
}

/// A chapter that is being summed up.
struct UnderWay {
    chapters: Arc<Chapters>,
    place: (ScenarioId, SceneId),
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut under_way = self.chapters.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.place);
    }
}

fn key(scenario: ScenarioId, last: SceneId) -> String {
    format!("chapter:{scenario}:{last}")
}

/// The whole chapters of a way that is long enough to need any.
fn chapters_of(path: &[Scene]) -> impl Iterator<Item = Range<usize>> + use<> {
    let tokens: u64 = path.iter().map(|scene| estimate_tokens(&scene.text)).sum();
    let settled = if tokens < LONG_TOKENS { 0 } else { path.len().saturating_sub(NEWEST) };
    (SCENES..=settled).step_by(SCENES).map(|end| end - SCENES..end)
}

/// Has the chapters of a way summed up that are not in `found`. Nobody waits for it.
pub fn make_missing(
    deps: &Arc<GenerationDeps>,
    scenario: &Arc<Scenario>,
    turn: TurnId,
    path: &[Scene],
    found: &[Chapter],
) {
    let missing = chapters_of(path).filter(|scenes| !found.iter().any(|c| c.scenes == *scenes));
    for scenes in missing {
        let last = path[scenes.end - 1].id;
        let (Some(under_way), Ok(permit)) = (
            deps.chapters.begin(scenario.id, last),
            Arc::clone(&deps.chapters.permits).try_acquire_owned(),
        ) else {
            continue;
        };
        let (deps, scenario) = (Arc::clone(deps), Arc::clone(scenario));
        let told = tell(&path[scenes]);
        let make = async move {
            if let Some(summary) = sum_up(&deps, &scenario, turn, told).await {
                let cache = &deps.chapters.cache;
                cache.keep(&key(scenario.id, last), Bytes::from(summary), KEPT).await;
                metrics::counter!("whatif_chapters_total", "outcome" => "made").increment(1);
            } else {
                metrics::counter!("whatif_chapters_total", "outcome" => "failed").increment(1);
            }
            drop((under_way, permit));
        };
        tokio::spawn(make.in_current_span());
    }
}

async fn sum_up(
    deps: &GenerationDeps,
    scenario: &Scenario,
    turn: TurnId,
    told: String,
) -> Option<String> {
    let messages = prompt::summary(&scenario.prompt, &scenario.language, &told);
    let candidates = deps.texts.candidates(scenario.provider.as_deref());
    for text in candidates.into_iter().filter(|text| text.meter.is_some()) {
        match ask(deps, scenario, turn, &text, messages.clone()).await {
            Ok(summary) => return Some(summary),
            Err(reason) => {
                tracing::debug!(scenario = %scenario.id, provider = text.name, reason, "no summary");
            }
        }
    }
    None
}

async fn ask(
    deps: &GenerationDeps,
    scenario: &Scenario,
    turn: TurnId,
    text: &TextHandle,
    messages: Vec<Message>,
) -> Result<String, String> {
    let meter = text.meter.ok_or("tells stories only")?;
    let input_tokens = messages.iter().map(|message| estimate_tokens(&message.content)).sum();
    let payer = Payer { turn, scenario: Some(scenario.id), user: scenario.owner };
    let nothing = meter.amount(Usage { input_tokens, output_tokens: 0 });
    let reserved = deps.budget.reserve(payer, meter.most(input_tokens), nothing).await;
    let bill = reserved.map_err(|error| error.to_string())?;
    let talk = Talk { messages, max_output_tokens: MAX_TOKENS, model: None };
    let answer = async {
        let stream = text.converse(talk).await?;
        read(stream, text).await
    };
    let (summary, usage) = match timeout(DEADLINE, answer).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(reason)) => return Err(reason),
        Err(_) => return Err("took too long".into()),
    };
    let usage = match usage {
        usage if usage != Usage::default() => usage,
        _ => Usage { input_tokens, output_tokens: estimate_tokens(&summary) },
    };
    deps.budget.settle(bill, meter.amount(usage)).await;
    let summary = tidy(&summary);
    if summary.is_empty() { Err("an empty summary".into()) } else { Ok(summary) }
}

async fn read(mut stream: TextStream, text: &TextHandle) -> Result<(String, Usage), String> {
    let mut answer = String::new();
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(TextChunk::Text(piece)) if answer.len() <= MAX_CHARS * 4 => answer.push_str(&piece),
            Ok(TextChunk::Text(_)) => return Ok((answer, Usage::default())),
            Ok(TextChunk::End { usage, .. }) => return Ok((answer, usage)),
            Err(error) => {
                let reason = error.to_string();
                text.report(error);
                return Err(reason);
            }
        }
    }
    Err("the stream ended without saying so".into())
}

/// One paragraph of bounded length.
fn tidy(summary: &str) -> String {
    let line = summary.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
        None => line,
    }
}

fn tell(scenes: &[Scene]) -> String {
    let mut told = String::new();
    for scene in scenes {
        if let Some(words) = scene.via.text() {
            let _ = writeln!(told, "[the reader: {words}]");
        }
        let _ = writeln!(told, "{}\n", scene.text);
    }
    told
}
