//! What the companion is told of the scenario itself, whatever is asked: where the story came from and where it stands.

use crate::domain::ids::SceneId;
use crate::domain::recall::{recall, sentence_end};
use crate::domain::scenario::{Scenario, Scene};

/// Scenes that are told in a line each, the latest.
const SCENES: usize = 24;
const LINE_CHARS: usize = 200;
/// Most sentences that are recalled, of so many scenes.
const RECALLED: usize = 8;
const RECALLED_SCENES: usize = 4;

/// The scenario on the way to the scene where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub title: String,
    pub prompt: String,
    pub genre: Option<String>,
    pub tone: Option<String>,
    /// Scenes on the way before these.
    pub earlier: usize,
    /// Oldest first.
    pub lines: Vec<Line>,
    /// The scene where it stands; empty before there is one.
    pub last: String,
    pub choices: Vec<String>,
    /// The world state, as JSON.
    pub state: String,
}

/// A scene in short.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub scene: SceneId,
    /// What the reader did to get there.
    pub after: Option<String>,
    pub first_sentence: String,
}

impl Facts {
    /// `path`: root first, as far as it could be read.
    pub fn of(scenario: &Scenario, path: &[Scene]) -> Self {
        let earlier = path.len().saturating_sub(SCENES);
        let last = path.last();
        Self {
            title: scenario.title.clone(),
            prompt: scenario.prompt.clone(),
            genre: scenario.genre.clone(),
            tone: scenario.tone.clone(),
            earlier,
            lines: path[earlier..].iter().map(line).collect(),
            last: last.map(|scene| scene.text.clone()).unwrap_or_default(),
            choices: last.map_or_else(Vec::new, |scene| {
                scene.choices.iter().map(|choice| choice.label.clone()).collect()
            }),
            state: last
                .and_then(|scene| serde_json::to_string(&scene.state).ok())
                .unwrap_or_default(),
        }
    }
}

fn line(scene: &Scene) -> Line {
    let text = scene.text.trim_start();
    Line {
        scene: scene.id,
        after: scene.via.text().map(|text| shortened(text).to_owned()),
        first_sentence: shortened(&text[..sentence_end(text)]).trim_end().to_owned(),
    }
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(LINE_CHARS).map_or(text, |(at, _)| &text[..at])
}

/// The scenes that bear on `cue`, each with its sentences that do, in the order they were told.
pub fn recalled(path: &[Scene], cue: &str) -> Vec<(SceneId, String)> {
    let texts: Vec<&str> = path.iter().map(|scene| scene.text.as_str()).collect();
    let mut found: Vec<(SceneId, String)> = Vec::new();
    for sentence in recall(&texts, cue, RECALLED) {
        let scene = path[sentence.scene].id;
        match found.last_mut() {
            Some((last, text)) if *last == scene => {
                text.push(' ');
                text.push_str(sentence.text);
            }
            _ => found.push((scene, sentence.text.to_owned())),
        }
    }
    // The latest know best how things stand.
    found.split_off(found.len().saturating_sub(RECALLED_SCENES))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::ids::{ScenarioId, TurnId, UserId};
    use crate::domain::patch::Object;
    use crate::domain::scenario::{Choice, Finish, Length, Usage, Via, content_hash};
    use jiff::Timestamp;
    use uuid::Uuid;

    pub fn scenario() -> Scenario {
        Scenario {
            id: ScenarioId(Uuid::nil()),
            owner: UserId(Uuid::nil()),
            title: "Rome stands".into(),
            prompt: "What if Rome never fell?".into(),
            genre: None,
            tone: Some("grave".into()),
            length: Length::Short,
            language: "en".into(),
            provider: None,
            model: None,
            seed: 7,
            tags: Vec::new(),
            favorite: false,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            scene_count: 2,
            current_scene: Some(SceneId(2)),
        }
    }

    pub fn path(texts: &[&str]) -> Vec<Scene> {
        let scene = |(at, text): (usize, &&str)| {
            let number = u32::try_from(at + 1).expect("a short path");
            let choice =
                |id: &str, label: &str| Choice { id: id.into(), label: label.into(), hint: None };
            Scene {
                scenario: ScenarioId(Uuid::nil()),
                id: SceneId(number),
                parent: (at > 0).then(|| SceneId(number - 1)),
                via: match at {
                    0 => Via::Prompt,
                    _ => Via::Say { text: format!("I go to {number}") },
                },
                text: (*text).to_owned(),
                choices: vec![choice("c1", "Open the gate"), choice("c2", "Wait for rain")],
                state: Object::from_iter([("grain".to_owned(), serde_json::json!(100 - at))]),
                authors: Vec::new(),
                usage: Usage::default(),
                finish: Finish::Complete,
                hash: content_hash(text),
                turn: TurnId(Uuid::nil()),
                created_at: Timestamp::UNIX_EPOCH,
            }
        };
        texts.iter().enumerate().map(scene).collect()
    }

    #[test]
    fn facts_say_where_the_story_stands() {
        let path = path(&["The gate fell. Smoke rose.", "Rain came. Varro spoke."]);
        let facts = Facts::of(&scenario(), &path);
        assert_eq!((facts.last.as_str(), facts.earlier), ("Rain came. Varro spoke.", 0));
        assert_eq!(facts.choices, ["Open the gate", "Wait for rain"]);
        assert_eq!(facts.state, r#"{"grain":99}"#);
        let second = Line {
            scene: SceneId(2),
            after: Some("I go to 2".into()),
            first_sentence: "Rain came.".into(),
        };
        assert_eq!((facts.lines.len(), &facts.lines[1]), (2, &second));
        let none = Facts::of(&scenario(), &[]);
        assert_eq!((none.lines.len(), none.last.as_str(), none.state.as_str()), (0, "", ""));
    }

    #[test]
    fn a_long_story_is_told_by_its_latest_scenes() {
        let texts = vec!["One sentence here. And more."; 60];
        let facts = Facts::of(&scenario(), &path(&texts));
        assert_eq!((facts.earlier, facts.lines.len()), (60 - SCENES, SCENES));
        assert_eq!(facts.lines[0].scene, SceneId(37));
    }

    #[test]
    fn scenes_are_recalled_with_what_bears_on_the_question() {
        let path = path(&[
            "The senate met. Varro hid the bronze key under the third step. It rained.",
            "Nobody spoke. The gates were shut.",
            "Smoke rose over the hill. The bronze key turned in the lock.",
        ]);
        let found = recalled(&path, "Where is the bronze key?");
        let want = [
            (SceneId(1), "Varro hid the bronze key under the third step.".to_owned()),
            (SceneId(3), "The bronze key turned in the lock.".to_owned()),
        ];
        assert_eq!(found, want);
        assert_eq!(recalled(&path, "Is there a dragon?"), []);
        assert_eq!(recalled(&[], "key"), []);
    }
}
