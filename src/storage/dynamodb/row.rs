//! Rows of the history table and their conversion to and from domain types. Pure; used by the repository alone.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{self, SHA256};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{Attributes, Item, key, number, text};
use super::tables::SK;
use crate::domain::ids::{ScenarioId, SceneId, UserId};
use crate::domain::scenario::{Length, Scenario, ScenarioChange, Scene};
use crate::storage::StoreError;

/// Sort key of a scenario's own item. It sorts before its scenes, so one query reads both.
pub(super) const META: &str = "META";
/// What the sort keys of scenes begin with.
pub(super) const SCENES: &str = "N#";
/// What the sort keys of an owner's list begin with.
pub(super) const LISTED: &str = "S#";

/// Layout of the rows. A higher one than this was written by a later version and is not guessed at.
const VERSION: u32 = 1;

/// Largest scene, encoded. A transaction takes 4 MB.
pub(super) const MAX_SCENE_BYTES: usize = 1024 * 1024;
/// Most of a scene in one item: a quarter of what an item may hold, so that reads stay cheap to page.
const CHUNK_BYTES: usize = 100_000;
/// Largest scenario when created, and largest change of one. An item takes 400 KiB: room for the record and for a
/// title and tags of a changed one.
const MAX_RECORD_BYTES: usize = 256 * 1024;
const MAX_CHANGE_BYTES: usize = 64 * 1024;

pub(super) fn owner_pk(owner: UserId) -> String {
    format!("U#{owner}")
}

pub(super) fn scenario_pk(id: ScenarioId) -> String {
    format!("S#{id}")
}

pub(super) fn listed_sk(id: ScenarioId) -> String {
    format!("{LISTED}{id}")
}

/// Padded, so that texts sort as numbers do.
pub(super) fn scene_sk(id: SceneId) -> String {
    format!("{SCENES}{:010}", id.0)
}

fn chunk_sk(id: SceneId, index: usize) -> String {
    format!("{}#C#{index:03}", scene_sk(id))
}

/// The scene and the index (0 is the head) that a sort key stands for.
fn parse_sk(sk: &str) -> Option<(SceneId, usize)> {
    let rest = sk.strip_prefix(SCENES)?;
    let (id, index) = match rest.split_once("#C#") {
        Some((id, index)) => (id, index.parse().ok()?),
        None => (rest, 0),
    };
    Some((SceneId(id.parse().ok()?), index))
}

pub(super) fn sort_key(item: &Item) -> Result<&str, StoreError> {
    item.get(SK)
        .and_then(|sk| sk.as_s().ok())
        .map(String::as_str)
        .ok_or_else(|| StoreError::Corrupt("an item without its key".into()))
}

/// # Errors
/// [`StoreError::TooLarge`]
pub(super) fn scenario_item(scenario: &Scenario) -> Result<Item, StoreError> {
    let s = scenario;
    let record = encode(s)?;
    at_most(record.len(), MAX_RECORD_BYTES)?;
    let mut item = key(scenario_pk(s.id), META);
    let mut set = |name: &str, value| item.insert(name.to_owned(), value);
    set("v", number(VERSION));
    set("owner", text(s.owner.to_string()));
    set("title", text(&s.title));
    set("prompt", text(&s.prompt));
    set("length", text(length_name(s.length)));
    set("language", text(&s.language));
    set("seed", number(s.seed));
    set("tags", tags(&s.tags));
    set("favorite", AttributeValue::Bool(s.favorite));
    set("created_at", text(s.created_at.to_string()));
    set("updated_at", text(s.updated_at.to_string()));
    set("scene_count", number(s.scene_count));
    set("created_as", created_as(&record));
    for (name, value) in
        [("genre", &s.genre), ("tone", &s.tone), ("provider", &s.provider), ("model", &s.model)]
    {
        if let Some(value) = value {
            set(name, text(value));
        }
    }
    if let Some(scene) = s.current_scene {
        set("current_scene", number(scene.0));
    }
    Ok(item)
}

/// `None` if it is soft-deleted. It is hidden from the moment of its deletion, so that it does not matter how late
/// its time to live takes it away.
pub(super) fn scenario_from(item: Item) -> Result<Option<Scenario>, StoreError> {
    if item.contains_key("deleted_at") {
        return Ok(None);
    }
    let mut a = Attributes::of(item);
    check_version(&mut a)?;
    let id = a
        .text(super::tables::PK)?
        .strip_prefix("S#")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| a.corrupt(super::tables::PK))?;
    let length = a.text("length")?;
    Ok(Some(Scenario {
        id,
        owner: a.parsed("owner")?,
        title: a.text("title")?,
        prompt: a.text("prompt")?,
        genre: a.opt_text("genre")?,
        tone: a.opt_text("tone")?,
        length: [Length::Short, Length::Medium, Length::Long]
            .into_iter()
            .find(|known| length_name(*known) == length)
            .ok_or_else(|| a.corrupt("length"))?,
        language: a.text("language")?,
        provider: a.opt_text("provider")?,
        model: a.opt_text("model")?,
        seed: a.number("seed")?,
        tags: a.texts("tags")?,
        favorite: a.flag("favorite")?,
        created_at: a.parsed("created_at")?,
        updated_at: a.parsed("updated_at")?,
        scene_count: a.number("scene_count")?,
        current_scene: a.opt_number("current_scene")?.map(SceneId),
    }))
}

/// Whether a stored scenario was created from exactly this record, however it has grown and been changed since.
pub(super) fn was_created_as(item: &Item, scenario: &Scenario) -> Result<bool, StoreError> {
    Ok(item.get("created_as") == Some(&created_as(&encode(scenario)?)))
}

fn created_as(record: &str) -> AttributeValue {
    AttributeValue::B(Blob::new(digest::digest(&SHA256, record.as_bytes()).as_ref()))
}

/// # Errors
/// [`StoreError::TooLarge`]
pub(super) fn check_change(change: &ScenarioChange) -> Result<(), StoreError> {
    let title = change.title.as_ref().map_or(0, String::len);
    let tags = change.tags.iter().flatten().map(|tag| tag.len() + 4).sum::<usize>();
    at_most(title + tags, MAX_CHANGE_BYTES)
}

pub(super) fn tags(tags: &[String]) -> AttributeValue {
    AttributeValue::L(tags.iter().map(text).collect())
}

const fn length_name(length: Length) -> &'static str {
    match length {
        Length::Short => "short",
        Length::Medium => "medium",
        Length::Long => "long",
    }
}

/// The items of a scene: its head and, above [`CHUNK_BYTES`], its further chunks.
///
/// A scene is immutable and only ever read whole, so it is one document (the domain type's own JSON, pinned by a
/// test below) cut into pieces, whichever of its parts is large. The head says
/// how many pieces there are.
///
/// # Errors
/// [`StoreError::TooLarge`]
pub(super) fn scene_items(scene: &Scene) -> Result<Vec<Item>, StoreError> {
    let document = encode(scene)?;
    at_most(document.len(), MAX_SCENE_BYTES)?;
    let pk = scenario_pk(scene.scenario);
    let pieces = cut(&document, CHUNK_BYTES);
    let mut items = Vec::with_capacity(pieces.len());
    for (index, piece) in pieces.iter().enumerate() {
        let mut item = if index == 0 {
            let mut head = key(&pk, scene_sk(scene.id));
            head.insert("v".to_owned(), number(VERSION));
            head.insert("pieces".to_owned(), number(pieces.len()));
            head
        } else {
            key(&pk, chunk_sk(scene.id, index))
        };
        item.insert("data".to_owned(), text(*piece));
        items.push(item);
    }
    Ok(items)
}

/// Pieces of at most `max` bytes, cut between characters; at least one.
fn cut(mut document: &str, max: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    while document.len() > max {
        let (piece, rest) = document.split_at(document.floor_char_boundary(max));
        pieces.push(piece);
        document = rest;
    }
    pieces.push(document);
    pieces
}

/// The items of one scene, in whatever order they come.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// How many there are; known once the head is here.
    expected: Option<usize>,
    found: BTreeMap<usize, String>,
}

impl Pieces {
    /// Adds an item and returns the scene it belongs to.
    pub(super) fn scene_of(item: &Item) -> Result<SceneId, StoreError> {
        let sk = sort_key(item)?;
        parse_sk(sk)
            .map(|(id, _)| id)
            .ok_or_else(|| StoreError::Corrupt(format!("an item with the key {sk}")))
    }

    pub(super) fn add(&mut self, item: Item) -> Result<(), StoreError> {
        let index = parse_sk(sort_key(&item)?).map_or(0, |(_, index)| index);
        let mut a = Attributes::of(item);
        if index == 0 {
            check_version(&mut a)?;
            self.expected = Some(a.number("pieces")?);
        }
        let data = a.text("data")?;
        self.found.insert(index, data);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.expected == Some(self.found.len())
    }

    /// # Errors
    /// [`StoreError::Corrupt`] if a piece is missing or the pieces are no scene.
    pub(super) fn assemble(self, scenario: ScenarioId, id: SceneId) -> Result<Scene, StoreError> {
        let corrupt = |why: &str| StoreError::Corrupt(format!("scene {id} of {scenario}: {why}"));
        if !self.is_whole() {
            return Err(corrupt("incomplete"));
        }
        let document: String = self.found.into_values().collect();
        let scene: Scene = serde_json::from_str(&document)
            // Its message could quote the story.
            .map_err(|e| corrupt(&format!("unreadable at column {}", e.column())))?;
        if scene.scenario == scenario && scene.id == id {
            Ok(scene)
        } else {
            Err(corrupt("stored under another key"))
        }
    }
}

/// Whether storing `scene` again would store what is there. Numbers in the state may lose their last digit in JSON,
/// so both sides are compared as read.
pub(super) fn is_same(stored: &Scene, scene: &Scene) -> Result<bool, StoreError> {
    let as_read: Scene = serde_json::from_str(&encode(scene)?)
        .map_err(|e| StoreError::Corrupt(format!("a scene that cannot be read back: {e}")))?;
    Ok(*stored == as_read)
}

fn check_version(a: &mut Attributes) -> Result<(), StoreError> {
    match a.number::<u32>("v")? {
        VERSION => Ok(()),
        other => Err(StoreError::Corrupt(format!("a row of layout {other}, this is {VERSION}"))),
    }
}

fn encode(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt(format!("not storable: {e}")))
}

fn at_most(size_bytes: usize, max_bytes: usize) -> Result<(), StoreError> {
    if size_bytes <= max_bytes {
        Ok(())
    } else {
        Err(StoreError::TooLarge { size_bytes, max_bytes })
    }
}
