//! Checks the content: what every pack must have, and what every passage must be. Called by `whatif storyteller lint`
//! for the authors of content, and by a test for what is compiled in. It finds everything there is to find, and
//! mends nothing.

mod folder;
mod measure;
mod pack;
mod shared;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;

use serde::de::DeserializeOwned;

pub use self::folder::{FolderError, from_folder};
use self::text::Sentences;
use super::content::{
    Common, Files, NameFile, PACK_FILES, PeriodFile, SHARED_FILES, Sources, TopicFile, VoiceFile,
    compiled_in,
};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Below the content's folder: `en/empire/early.toml`.
    pub file: String,
    /// The item by its id or key.
    pub item: String,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, item, what } = self;
        if item.is_empty() {
            write!(f, "{file}: {what}")
        } else {
            write!(f, "{file}: {item}: {what}")
        }
    }
}

/// Collects findings about one folder of files.
struct Report<'r> {
    findings: &'r mut Vec<Finding>,
    /// `en` or `en/empire`.
    place: String,
}

impl Report<'_> {
    fn add(&mut self, file: &str, item: &str, what: impl fmt::Display) {
        let file = format!("{}/{file}.toml", self.place);
        self.findings.push(Finding { file, item: item.to_owned(), what: what.to_string() });
    }

    /// The parsed file; what does not parse is a finding.
    fn read<T: DeserializeOwned>(&mut self, file: &str, source: Option<&str>) -> Option<T> {
        let Some(source) = source else {
            self.add(file, "", "is missing");
            return None;
        };
        match toml::from_str(source) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start.min(source.len()));
                let line =
                    source.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
                self.add(file, &format!("line {line}"), error.message());
                None
            }
        }
    }
}

/// A language's files as far as they could be read.
struct Shared {
    common: Option<Common>,
    names: Option<NameFile>,
    topics: Option<TopicFile>,
    periods: Option<PeriodFile>,
    voices: Option<VoiceFile>,
}

/// What is wrong with the content that is compiled in.
pub fn check_compiled_in(only: Option<&str>) -> Vec<Finding> {
    check(&compiled_in(), only)
}

/// What is wrong with `sources`; with `only`, just what is wrong with the pack of that name.
pub fn check(sources: &[Sources], only: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for language in sources {
        check_language(language, &mut findings);
    }
    if let Some(only) = only {
        let within = format!("/{only}/");
        findings.retain(|finding| finding.file.contains(&within));
    }
    findings
}

fn check_language(sources: &Sources, findings: &mut Vec<Finding>) {
    let mut sentences = Sentences::default();
    let mut report = Report { findings, place: sources.language.clone() };
    let [common, names, topics, periods, voices] = &sources.shared;
    let shared = Shared {
        common: report.read(SHARED_FILES[0], common.as_deref()),
        names: report.read(SHARED_FILES[1], names.as_deref()),
        topics: report.read(SHARED_FILES[2], topics.as_deref()),
        periods: report.read(SHARED_FILES[3], periods.as_deref()),
        voices: report.read(SHARED_FILES[4], voices.as_deref()),
    };
    let intents: Option<Vec<(String, Option<String>)>> = shared.common.as_ref().map(|common| {
        common.intent.iter().map(|intent| (intent.id.clone(), intent.like.clone())).collect()
    });
    shared::check(shared, &sources.language, &mut report, &mut sentences);
    for (id, files) in &sources.packs {
        let mut report =
            Report { findings: report.findings, place: format!("{}/{id}", sources.language) };
        let [pack, cast, early, middle, late, papers, endings] = files;
        let (pack, cast) = (
            report.read(PACK_FILES[0], pack.as_deref()),
            report.read(PACK_FILES[1], cast.as_deref()),
        );
        // Without these two nobody knows what a slot or a flag may be called.
        let whole = pack.is_some() && cast.is_some();
        let files = Files {
            pack: pack.unwrap_or_default(),
            cast: cast.unwrap_or_default(),
            early: report.read(PACK_FILES[2], early.as_deref()).unwrap_or_default(),
            middle: report.read(PACK_FILES[3], middle.as_deref()).unwrap_or_default(),
            late: report.read(PACK_FILES[4], late.as_deref()).unwrap_or_default(),
            papers: report.read(PACK_FILES[5], papers.as_deref()).unwrap_or_default(),
            endings: report.read(PACK_FILES[6], endings.as_deref()).unwrap_or_default(),
        };
        let subject =
            pack::Subject { id, language: &sources.language, intents: intents.as_deref() };
        pack::check(files, &subject, whole, &mut report, &mut sentences);
    }
}
