//! The second step: what there is to answer from. The story's own scenes first, then the world, at the same time where
//! both are wanted; what cannot be had is done without, and told.

use super::Library;
use super::search::Searched;
use super::story::{Facts, recalled};
use super::understand::{About, Understood, Web};
use crate::domain::ids::SceneId;
use crate::domain::scenario::{Scenario, Scene};
use crate::providers::search::Found;

/// Everything that an answer may be made of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Material {
    pub about: Option<About>,
    /// Absent for talk about no scenario.
    pub facts: Option<Facts>,
    /// Numbered from 1 in this order.
    pub sources: Vec<Source>,
    /// The story could not be read.
    pub story_away: bool,
    /// Nobody who is asked about the world answered.
    pub web_away: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Scene { scene: SceneId, text: String },
    Page(Found),
}

impl Material {
    pub fn is_partial(&self) -> bool {
        self.story_away || self.web_away
    }
}

/// What is looked for.
pub struct Wanted<'a> {
    pub scenario: Option<&'a Scenario>,
    pub language: &'a str,
    pub understood: &'a Understood,
}

pub async fn look_up(library: &Library, wanted: &Wanted<'_>) -> Material {
    let web = async {
        match wanted.understood.query() {
            Some(query) => library.searcher.search(&query, wanted.language).await,
            None => Searched::Off,
        }
    };
    let early = async {
        match wanted.understood.web {
            Web::Always => Some(web.await),
            Web::IfStoryIsSilent => None,
        }
    };
    let (path, searched) = tokio::join!(read(library, wanted.scenario), early);
    let mut material = Material { about: Some(wanted.understood.about), ..Material::default() };
    let path = path.unwrap_or_else(|| {
        material.story_away = true;
        Vec::new()
    });
    material.facts = wanted.scenario.map(|scenario| Facts::of(scenario, &path));
    // Not the question: words that stand in every one would recall any sentence.
    let scenes = recalled(&path, &wanted.understood.cue());
    let silent = scenes.is_empty() && !material.story_away;
    material.sources.extend(scenes.into_iter().map(|(scene, text)| Source::Scene { scene, text }));
    let searched = match (searched, wanted.understood.query()) {
        (Some(searched), _) => searched,
        (None, Some(query)) if silent => library.searcher.search(&query, wanted.language).await,
        (None, _) => Searched::Off,
    };
    match searched {
        Searched::Found(found) => material.sources.extend(found.into_iter().map(Source::Page)),
        Searched::Away => material.web_away = true,
        Searched::Off => {}
    }
    material
}

/// The scenes on the way to where the story stands; `None` if they cannot be read.
async fn read(library: &Library, scenario: Option<&Scenario>) -> Option<Vec<Scene>> {
    let Some(scenario) = scenario else { return Some(Vec::new()) };
    let Some(current) = scenario.current_scene else { return Some(Vec::new()) };
    match library.history.load_path(scenario.id, current).await {
        Ok(path) => Some(path),
        Err(error) => {
            tracing::warn!(scenario = %scenario.id, %error, "the companion cannot read the story");
            None
        }
    }
}
