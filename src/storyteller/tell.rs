//! A whole story as text, for reading at one's desk: what `whatif storyteller tell` prints. Called by `main`; pure like
//! the engine it asks scene by scene, as the provider does, with what a reader would have seen in between.

use std::fmt::Write;

use super::chance::Key;
use super::prompt::tame;
use super::{Choice, Input, compose};
use crate::domain::patch::{self, Object};
use crate::domain::scenario::{Length, MAX_SEED, Via};

/// Columns of a line of prose.
const WIDTH: usize = 80;
/// Scenes of a story that found no ending by itself.
const MOST_TURNS: u32 = 24;
/// A reader's words come after every so many scenes.
const SPEAK_EVERY: u32 = 2;

/// What `whatif storyteller tell` was told.
#[derive(Debug, Clone, clap::Args)]
pub struct Wanted {
    /// What if … ?
    pub prompt: String,
    /// The same seed tells the same story; made from the prompt when left out.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=MAX_SEED))]
    pub seed: Option<u64>,
    /// Scenes, beyond an ending if need be; up to the first ending when left out.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub turns: Option<u32>,
    /// How long a scene is to be.
    #[arg(long, default_value = "medium", value_parser = length)]
    pub length: Length,
    #[arg(long)]
    pub tone: Option<String>,
    #[arg(long)]
    pub genre: Option<String>,
    /// A BCP 47 tag; content is in en and vi.
    #[arg(long, default_value = "en")]
    pub language: String,
    /// Words to say instead of choosing, after the second scene, the fourth, and so on; may be given many times.
    #[arg(long, value_name = "WORDS")]
    pub say: Vec<String>,
}

fn length(name: &str) -> Result<Length, String> {
    match name {
        "short" => Ok(Length::Short),
        "medium" => Ok(Length::Medium),
        "long" => Ok(Length::Long),
        _ => Err("is not one of short, medium, long".to_owned()),
    }
}

/// The story, as Markdown that reads well as it is: prose, what could be chosen, and what was.
pub fn tell(wanted: &Wanted) -> String {
    let mut out = String::with_capacity(16 * 1024);
    let _ = writeln!(out, "# {}", tame(&wanted.prompt, 200));
    let (mut state, mut via) = (Object::new(), Via::Prompt);
    let mut said = wanted.say.iter();
    let seed = wanted.seed.unwrap_or_else(|| {
        Key::new(0).with(&wanted.prompt).below(usize::try_from(MAX_SEED).unwrap_or(usize::MAX))
            as u64
    });
    let turns = wanted.turns.unwrap_or(MOST_TURNS);
    for turn in 1..=turns {
        let scene = compose(&Input {
            prompt: &wanted.prompt,
            genre: wanted.genre.as_deref(),
            tone: wanted.tone.as_deref(),
            length: wanted.length,
            language: &wanted.language,
            seed,
            state: &state,
            via: &via,
            variation: 0,
        });
        patch::merge(&mut state, &scene.patch);
        let _ = write!(out, "\n## {turn}\n");
        for paragraph in scene.prose.split("\n\n") {
            let _ = write!(out, "\n{}", wrapped(paragraph, 0));
        }
        let ended = wanted.turns.is_none() && state.contains_key("ended");
        if ended || turn == turns {
            offer(&mut out, &scene.choices, None);
            break;
        }
        let words = (turn % SPEAK_EVERY == 0).then(|| said.next()).flatten();
        via = if let Some(words) = words {
            offer(&mut out, &scene.choices, None);
            let _ = write!(out, "\n{}", wrapped(&format!("**“{}”**", tame(words, 400)), 0));
            Via::Say { text: words.clone() }
        } else {
            let whim = Key::new(seed).with("whim").at(u64::from(turn));
            let taken = whim.below(scene.choices.len());
            offer(&mut out, &scene.choices, Some(taken));
            let text = scene.choices.get(taken).map(|choice| choice.label.clone());
            Via::Choose { choice: format!("c{}", taken + 1), text: text.unwrap_or_default() }
        };
    }
    out
}

fn offer(out: &mut String, choices: &[Choice], taken: Option<usize>) {
    out.push('\n');
    for (index, Choice { label, hint }) in choices.iter().enumerate() {
        let mark = if taken == Some(index) { "**" } else { "" };
        let line = format!("{}. {mark}{label}{mark} ({hint})", index + 1);
        out.push_str(&wrapped(&line, 3));
    }
}

/// `text` in lines of at most [`WIDTH`] columns, those after the first indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    let mut column = 0;
    for word in text.split(' ') {
        let columns = word.chars().count();
        if column > 0 && column + 1 + columns > WIDTH {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += columns;
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(seed: u64) -> Wanted {
        Wanted {
            prompt: "What if Rome never fell?".to_owned(),
            seed: Some(seed),
            turns: None,
            length: Length::Short,
            tone: None,
            genre: None,
            language: "en".to_owned(),
            say: Vec::new(),
        }
    }

    #[test]
    fn a_story_is_told_to_its_ending_and_by_its_seed_alone() {
        let story = tell(&wanted(7));
        assert_eq!(tell(&wanted(7)), story);
        assert_ne!(tell(&wanted(8)), story);
        let scenes = story.matches("\n## ").count();
        assert!((8..=12).contains(&scenes), "{scenes} scenes");
        // Every scene but the last says what was taken.
        assert_eq!(story.matches(". **").count(), scenes - 1);
        assert!(story.lines().all(|line| line.chars().count() <= WIDTH), "{story}");
    }

    #[test]
    fn without_a_seed_two_prompts_have_two_stories() {
        let story = |prompt: &str| {
            let prompt = prompt.to_owned();
            tell(&Wanted { prompt, seed: None, turns: Some(3), ..wanted(0) })
        };
        let (fly, sing) = (story("What if people could fly?"), story("What if people could sing?"));
        assert_eq!(story("What if people could fly?"), fly);
        let same = fly.lines().filter(|line| line.len() > 40 && sing.contains(*line)).count();
        assert!(same * 2 < fly.lines().filter(|line| line.len() > 40).count(), "{fly}\n{sing}");
    }

    #[test]
    fn as_many_scenes_as_wanted_with_the_words_that_were_said() {
        let say = vec!["Open the granaries".to_owned(), "I ride north at once".to_owned()];
        let story = tell(&Wanted { turns: Some(14), say, ..wanted(7) });
        assert_eq!(story.matches("\n## ").count(), 14);
        let at = |text: &str| story.find(text).unwrap_or_else(|| panic!("no {text} in {story}"));
        assert!(at("\n## 2") < at("**“Open the granaries”**"));
        assert!(at("**“Open the granaries”**") < at("\n## 3"));
        assert!((at("\n## 4")..at("\n## 5")).contains(&at("**“I ride north at once”**")));
    }
}
