//! What a player types, and what it asks for. Pure.

use serde_json::{Value, json};

use super::wire::Scene;

pub const HELP: &str = "\
  1-4           take a choice
  any words     go your own way
  /retry        tell this scene again
  /edit TEXT    put your own text in place of this scene
  /jump n3      go back (or over) to another scene
  /tree         all scenes of this story
  /stop         stop the scene that is being written (Ctrl-C does too)
  /quit         leave; the story is kept
";

/// A line of input, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Nothing, or nothing but blanks.
    Empty,
    Choose(usize),
    Say(String),
    Retry,
    Edit(String),
    Jump(String),
    Tree,
    Stop,
    Help,
    Quit,
    /// With what to tell the player.
    Mistaken(String),
}

impl Input {
    /// Whether it can be done while a scene is being written.
    pub const fn is_immediate(&self) -> bool {
        matches!(self, Input::Stop | Input::Help | Input::Quit)
    }

    pub fn parse(line: &str) -> Input {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return match line.parse() {
                _ if line.is_empty() => Input::Empty,
                Ok(number) if line.len() == 1 => Input::Choose(number),
                _ => Input::Say(line.to_owned()),
            };
        };
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        match (name.to_ascii_lowercase().as_str(), rest) {
            ("retry", "") => Input::Retry,
            ("edit", "") => Input::Mistaken("/edit needs the new text: /edit It was night.".into()),
            ("edit", text) => Input::Edit(text.to_owned()),
            ("jump", scene) => match scene.parse::<crate::domain::ids::SceneId>() {
                Ok(scene) => Input::Jump(scene.to_string()),
                Err(_) => Input::Mistaken("/jump needs a scene: /jump n3 (see /tree)".into()),
            },
            ("tree", "") => Input::Tree,
            ("stop", "") => Input::Stop,
            ("help" | "?", _) => Input::Help,
            ("quit" | "q" | "exit", "") => Input::Quit,
            _ => Input::Mistaken(format!("no such command: /{command} (see /help)")),
        }
    }

    /// The frame without `id`, `scenario` and `idem`, if this asks something of the session at `scene`.
    ///
    /// # Errors
    /// What to tell the player.
    pub fn frame(&self, scene: &Scene) -> Result<Option<Value>, String> {
        let at = &scene.id;
        Ok(Some(match self {
            Input::Choose(number) => {
                let choice = number.checked_sub(1).and_then(|index| scene.choices.get(index));
                let choice = choice.ok_or_else(|| match scene.choices.len() {
                    0 => "there are no choices here: write what happens, or /jump".to_owned(),
                    most => format!("choose 1 to {most}, or write what happens"),
                })?;
                json!({ "type": "choose", "scene": at, "choice": choice.id })
            }
            Input::Say(text) => json!({ "type": "say", "scene": at, "text": text }),
            Input::Retry => json!({ "type": "retry", "scene": at }),
            Input::Edit(text) => json!({ "type": "edit", "scene": at, "text": text }),
            Input::Jump(scene) => json!({ "type": "jump", "scene": scene }),
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::play::wire::Choice;

    #[test]
    fn lines_are_understood() {
        let cases = [
            ("", Input::Empty),
            ("  \t", Input::Empty),
            ("2", Input::Choose(2)),
            (" 4 ", Input::Choose(4)),
            ("1453", Input::Say("1453".into())),
            ("2 legions march", Input::Say("2 legions march".into())),
            ("/retry", Input::Retry),
            ("/EDIT  It was night. ", Input::Edit("It was night.".into())),
            ("/jump n3", Input::Jump("n3".into())),
            ("/tree", Input::Tree),
            ("/stop", Input::Stop),
            ("/q", Input::Quit),
        ];
        for (line, input) in cases {
            assert_eq!(Input::parse(line), input, "{line:?}");
        }
        for line in ["/", "/edit", "/jump", "/jump 3", "/jump n03", "/fly", "/retry now"] {
            assert!(matches!(Input::parse(line), Input::Mistaken(_)), "{line:?}");
        }
    }

    #[test]
    fn only_choices_that_exist_are_sent() {
        let choice = Choice { id: "c9".into(), label: "go".into(), hint: None };
        let scene = Scene { id: "n2".into(), choices: vec![choice], ..Scene::default() };
        let sent = json!({ "type": "choose", "scene": "n2", "choice": "c9" });
        assert_eq!(Input::Choose(1).frame(&scene), Ok(Some(sent)));
        for number in [0, 2] {
            assert!(Input::Choose(number).frame(&scene).is_err(), "{number}");
        }
        assert_eq!(Input::Tree.frame(&scene), Ok(None));
    }
}
