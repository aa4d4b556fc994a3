//! What a client that follows the apply rule makes of a scenario's events, to be held against what is stored.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::Value;

use super::app::{App, Reader};

/// A story as it was told to one client.
#[derive(Default)]
pub struct Story {
    pub epoch: String,
    pub last: u64,
    /// In the order they were begun.
    pub turns: Vec<Telling>,
    /// From a snapshot, by id.
    pub scenes: BTreeMap<String, Value>,
    /// Frames that stood for several events.
    pub merged: usize,
}

#[derive(Default, Debug, Clone)]
pub struct Telling {
    pub turn: String,
    pub scene: String,
    pub parent: Value,
    pub via: Value,
    pub text: String,
    pub choices: Vec<Value>,
    pub patch: Value,
    /// The last event, if it has come.
    pub end: Option<Value>,
    /// Types of its events in order, runs of deltas as one.
    pub kinds: Vec<String>,
}

impl Story {
    pub fn of(frames: &[String]) -> Self {
        let mut story = Self::default();
        frames.iter().for_each(|frame| story.apply(frame));
        story
    }

    /// Applies a frame, and fails on whatever a client would have to reattach for.
    pub fn apply(&mut self, frame: &str) {
        let event: Value = serde_json::from_str(frame).unwrap();
        let kind = event["type"].as_str().unwrap();
        let seq = event["seq"].as_u64().unwrap();
        if kind == "snapshot" {
            self.start_from(&event);
            return;
        }
        let from = event["seq_from"].as_u64().unwrap_or(seq);
        let shown: String = frame.chars().take(300).collect();
        assert_eq!(from, self.last + 1, "a hole or a repetition before {shown}");
        assert!(from <= seq, "{shown}");
        self.merged += usize::from(from < seq);
        self.last = seq;
        let epoch = event["epoch"].as_str().unwrap();
        match self.epoch.is_empty() {
            true => self.epoch = epoch.to_owned(),
            false => assert_eq!(self.epoch, epoch),
        }
        if kind == "turn.started" {
            assert!(
                self.turns.last().is_none_or(|turn| turn.end.is_some()),
                "two at a time: {frame}"
            );
            self.turns.push(Telling {
                turn: text(&event["turn"]),
                scene: text(&event["scene"]),
                parent: event["parent"].clone(),
                via: event["via"].clone(),
                kinds: vec![kind.to_owned()],
                ..Telling::default()
            });
            return;
        }
        let turn = self.turns.last_mut().expect("a turn was started before");
        assert_eq!(turn.turn, event["turn"], "{frame}");
        turn.apply(kind, &event);
    }

    fn start_from(&mut self, snapshot: &Value) {
        self.epoch = text(&snapshot["epoch"]);
        self.last = snapshot["seq"].as_u64().unwrap();
        let scenes = snapshot["scenes"].as_array().unwrap().iter();
        self.scenes = scenes.map(|scene| (text(&scene["id"]), scene.clone())).collect();
        self.turns.clear();
        let open = &snapshot["open_turn"];
        if !open.is_null() {
            assert!(!self.scenes.contains_key(open["scene"].as_str().unwrap()), "told twice");
            self.turns.push(Telling {
                turn: text(&open["turn"]),
                scene: text(&open["scene"]),
                parent: open["parent"].clone(),
                via: open["via"].clone(),
                text: text(&open["text"]),
                choices: open["choices"].as_array().unwrap().clone(),
                ..Telling::default()
            });
        }
    }

    pub fn newest(&self) -> &Telling {
        self.turns.last().expect("a turn")
    }

    /// Compares everything that was told with the stored tree.
    pub async fn agrees_with(&self, app: &App, reader: &Reader, scenario: &str) {
        let path = format!("/scenarios/{scenario}/tree");
        let (status, tree) = app.ask(reader, Method::GET, &path, None).await;
        assert_eq!(status, 200, "{tree}");
        self.agrees_with_tree(&tree);
    }

    /// Likewise, with the tree at hand.
    pub fn agrees_with_tree(&self, tree: &Value) {
        let items = tree["items"].as_array().unwrap();
        let stored: BTreeMap<_, _> =
            items.iter().map(|scene| (text(&scene["id"]), scene)).collect();
        let mut told: Vec<_> = self.scenes.keys().cloned().collect();
        for telling in &self.turns {
            let scene = stored.get(&telling.scene);
            telling.agrees_with(scene.unwrap_or_else(|| panic!("not stored: {telling:?}")));
            told.push(telling.scene.clone());
        }
        for (id, scene) in &self.scenes {
            assert_eq!(scene, stored[id]);
        }
        told.sort();
        told.dedup();
        let ids: Vec<_> = stored.into_keys().collect();
        assert_eq!(told, ids, "told and stored");
    }
}

impl Telling {
    fn apply(&mut self, kind: &str, event: &Value) {
        assert!(self.end.is_none(), "after its end: {event}");
        if kind != "text.delta" || self.kinds.last().is_none_or(|last| last != kind) {
            self.kinds.push(kind.to_owned());
        }
        let units = self.text.encode_utf16().count() as u64;
        match kind {
            "text.delta" => {
                assert_eq!(event["off"].as_u64(), Some(units), "{event}");
                self.text.push_str(event["text"].as_str().unwrap());
            }
            "text.done" => assert_eq!(event["len"].as_u64(), Some(units), "{event}"),
            "choice" => self.choices.push(event["choice"].clone()),
            "state.patch" => self.patch = event["patch"].clone(),
            "turn.done" | "turn.failed" => self.end = Some(event.clone()),
            "choices.done" | "turn.failover" => {}
            _ => panic!("an unknown event: {event}"),
        }
    }

    pub fn finish(&self) -> &str {
        self.end.as_ref().and_then(|end| end["finish"].as_str()).expect("a turn that is done")
    }

    /// Compares with the stored scene.
    pub fn agrees_with(&self, scene: &Value) {
        assert_eq!(self.text, scene["text"], "{}", self.scene);
        assert_eq!(Value::from(self.choices.clone()), scene["choices"]);
        assert_eq!(scene["hash"], sha256(&self.text));
        let end = self.end.as_ref().expect("a turn that is over");
        if end["type"] == "turn.done" {
            assert_eq!(end["hash"], scene["hash"]);
            assert_eq!(end["scene"], scene["id"]);
        }
        if self.via["kind"] != "jump" {
            assert_eq!(self.parent, scene["parent"]);
            assert_eq!(self.via, scene["via"]);
            assert_eq!(end["finish"], scene["finish"]);
            assert_eq!(end["usage"], scene["usage"]);
        }
    }
}

/// Lower-case hex.
fn sha256(text: &str) -> String {
    use std::fmt::Write as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}
