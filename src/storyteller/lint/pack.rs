//! Checks the files of one pack: its passages one by one, then whether everything they speak of exists, then whether
//! there is enough of it.

mod amount;

use std::collections::BTreeSet;

use super::Report;
use super::measure::measure;
use super::text::{self, Known, Sentences, source};
use crate::storyteller::content::walk::Walk;
use crate::storyteller::content::{Effects, Files, Need, Offer, PackFile, StoryFile, Storylet};
use crate::storyteller::plan::strongest;
use crate::storyteller::template::{CORE_ROLES, Role};

/// Most points by which anything moves a pressure at once.
const MAX_MOVE: i16 = 25;
/// Longest key, id or flag, in bytes; the world state holds them.
const MAX_KEY: usize = 40;
/// Longest title, goal or secret, in bytes.
const MAX_SHORT: usize = 160;

/// The pack at hand.
pub struct Subject<'s> {
    pub id: &'s str,
    pub language: &'s str,
    /// What free text may ask for, each with the intent it is like; unknown when the common file does not parse.
    pub intents: Option<&'s [(String, Option<String>)]>,
}

/// A pack's files with what can be said in them.
struct Book<'b> {
    files: &'b Files,
    pressures: BTreeSet<&'b str>,
    /// Flags that a choice or a secret sets.
    flags: BTreeSet<&'b str>,
}

pub fn check(
    mut files: Files,
    subject: &Subject<'_>,
    whole: bool,
    report: &mut Report<'_>,
    seen: &mut Sentences,
) {
    let measure = measure(subject.language, subject.id);
    let known = whole.then(|| Known {
        roles: files.cast.role.iter().map(|part| part.key.clone()).collect(),
        words: words(&files.pack),
        articled: articled(&files.pack),
    });
    files.walk(&mut |spot, template| {
        text::check(spot, template, known.as_ref(), subject.language, report, seen);
    });
    let book = Book {
        pressures: files.pack.pressure.iter().map(|pressure| pressure.key.as_str()).collect(),
        flags: flags(&files),
        files: &files,
    };
    if whole {
        book.names_fit(subject, report);
        book.references(subject, report);
        book.choices(report);
    }
    amount::check(&book, measure, report);
}

fn words(pack: &PackFile) -> Vec<String> {
    [&pack.words, &pack.words_old, &pack.words_industrial, &pack.words_modern]
        .into_iter()
        .flat_map(|lists| lists.keys().cloned())
        .collect()
}

/// The names of lists in which a word brings its article along.
fn articled(pack: &PackFile) -> Vec<String> {
    let has_one =
        |word: &String| ["the ", "a ", "an "].iter().any(|article| word.starts_with(article));
    [&pack.words, &pack.words_old, &pack.words_industrial, &pack.words_modern]
        .into_iter()
        .flatten()
        .filter(|(_, list)| list.iter().any(has_one))
        .map(|(name, _)| name.clone())
        .collect()
}

fn flags(files: &Files) -> BTreeSet<&str> {
    let of_choices = storylets(files)
        .flat_map(|(_, storylet)| &storylet.choice)
        .chain(&files.pack.sequel)
        .flat_map(|offer| &offer.set);
    let of_secrets = files
        .cast
        .role
        .iter()
        .filter_map(|part| part.secret.as_ref())
        .flat_map(|secret| &secret.set);
    of_choices.chain(of_secrets).map(String::as_str).collect()
}

fn story_files(files: &Files) -> [(&'static str, &StoryFile); 4] {
    [
        ("early", &files.early),
        ("middle", &files.middle),
        ("late", &files.late),
        ("papers", &files.papers),
    ]
}

/// Every situation and its file, the opening last.
fn storylets(files: &Files) -> impl Iterator<Item = (&'static str, &Storylet)> {
    story_files(files)
        .into_iter()
        .flat_map(|(file, stories)| stories.storylet.iter().map(move |storylet| (file, storylet)))
        .chain([("pack", &files.pack.opening)])
}

impl Book<'_> {
    /// Keys and ids: the folder's name, no name twice, nothing too long for the state.
    fn names_fit(&self, subject: &Subject<'_>, report: &mut Report<'_>) {
        if self.files.pack.id != subject.id {
            report.add("pack", "id", format!("is not its folder’s name, {}", subject.id));
        }
        let roles = self.files.cast.role.iter().map(|part| ("cast", part.key.as_str()));
        let pressures = self.files.pack.pressure.iter().map(|each| ("pack", each.key.as_str()));
        let stories = storylets(self.files).map(|(file, storylet)| (file, storylet.id.as_str()));
        let endings = self.files.endings.ending.iter().map(|each| ("endings", each.id.as_str()));
        // A situation and an ending may not share a name either: the state names both in one place.
        for names in
            [roles.collect::<Vec<_>>(), pressures.collect(), stories.chain(endings).collect()]
        {
            let mut seen = BTreeSet::new();
            for (file, name) in names {
                if !seen.insert(name) {
                    report.add(file, name, "there are two of this name");
                }
                if name.is_empty() || name.len() > MAX_KEY || name.contains('.') {
                    report.add(file, name, "is no fit name");
                }
            }
        }
        for flag in self.flags.iter().filter(|flag| flag.is_empty() || flag.len() > MAX_KEY) {
            report.add("pack", flag, "is no fit name of a flag");
        }
        if self.files.cast.role.len() > Role::MOST {
            report.add("cast", "", format!("more than {} roles", Role::MOST));
        }
        for core in CORE_ROLES {
            if !self.files.cast.role.iter().any(|part| part.key == core) {
                report.add("cast", core, "is missing");
            }
        }
        for part in &self.files.cast.role {
            if part.key.contains('_') || part.titles.is_empty() || part.goal.is_empty() {
                report.add("cast", &part.key, "needs a plain key, a title and a goal");
            }
        }
    }

    fn effects(&self, effects: &Effects, file: &str, item: &str, report: &mut Report<'_>) {
        for (key, change) in effects {
            if !self.pressures.contains(key.as_str()) {
                report.add(file, item, format!("moves unknown {key}"));
            }
            if !(1..=MAX_MOVE).contains(&change.abs()) {
                report.add(file, item, format!("moves {key} by {change}"));
            }
        }
    }

    /// Titles, goals and secrets may have words of the pack in them, and nothing else.
    fn words_known(&self, text: &str, item: &str, report: &mut Report<'_>) {
        let known = words(&self.files.pack);
        for rest in text.split('{').skip(1) {
            let name = rest.split('}').next().unwrap_or_default();
            if !known.iter().any(|word| word == name) {
                report.add("cast", item, format!("no words {{{name}}} for “{text}”"));
            }
        }
        if text.is_empty() || text.len() > MAX_SHORT || text.contains(['|', '<', '\n']) {
            report.add("cast", item, format!("is not fit for the state: “{text}”"));
        }
    }

    fn need(&self, need: &Need, file: &str, item: &str, report: &mut Report<'_>) {
        match need {
            Need::Below(key, _) | Need::Above(key, _) => {
                if !self.pressures.contains(key.as_str()) {
                    report.add(file, item, format!("needs unknown {key}"));
                }
            }
            Need::Flag(flag) | Need::NoFlag(flag) => {
                if !self.flags.contains(flag.as_str()) {
                    report.add(file, item, format!("needs {flag}, which nothing sets"));
                }
            }
        }
    }

    fn references(&self, subject: &Subject<'_>, report: &mut Report<'_>) {
        let pack = &self.files.pack;
        self.effects(&pack.harsh, "pack", "harsh", report);
        self.effects(&pack.gentle, "pack", "gentle", report);
        for (intent, effects) in &pack.intents {
            self.effects(effects, "pack", intent, report);
            if subject.intents.is_some_and(|known| !known.iter().any(|(id, _)| id == intent)) {
                report.add("pack", intent, "is no intent");
            }
        }
        for (intent, like) in subject.intents.unwrap_or_default() {
            let effects = |id: &String| pack.intents.get(id).filter(|effects| !effects.is_empty());
            if effects(intent).or_else(|| effects(like.as_ref()?)).is_none() {
                report.add("pack", intent, "an intent without effects");
            }
        }
        for cause in &pack.cause {
            self.need(&cause.when, "pack", "cause", report);
            self.effects(&cause.effects, "pack", "cause", report);
            if matches!(cause.when, Need::Flag(_) | Need::NoFlag(_)) {
                report.add("pack", "cause", "has to begin with a pressure");
            }
        }
        for part in &self.files.cast.role {
            for goal in &part.goal {
                self.effects(&goal.effects, "cast", &part.key, report);
            }
            let short = part.titles.iter().chain(part.goal.iter().map(|goal| &goal.text));
            for text in short.chain(part.secret.iter().map(|secret| &secret.text)) {
                self.words_known(text, &part.key, report);
            }
            if let Some(secret) = &part.secret {
                self.effects(&secret.effects, "cast", &part.key, report);
            }
        }
        for (file, storylet) in storylets(self.files) {
            let item = &storylet.id;
            self.effects(&storylet.effects, file, item, report);
            for need in &storylet.needs {
                self.need(need, file, item, report);
            }
            let [first, last] = storylet.acts;
            let ordered = 1 <= first && first <= last && last <= 3;
            if !ordered || !(0..=100).contains(&storylet.heat) {
                report.add(file, item, "acts are 1 to 3, heat 0 to 100");
            }
        }
        for ending in &self.files.endings.ending {
            for key in ending.leans.keys().filter(|key| !self.pressures.contains(key.as_str())) {
                report.add("endings", &ending.id, format!("leans on unknown {key}"));
            }
            for flag in ending.flags.iter().filter(|flag| !self.flags.contains(flag.as_str())) {
                report.add("endings", &ending.id, format!("asks for {flag}, which nothing sets"));
            }
        }
    }

    fn choices(&self, report: &mut Report<'_>) {
        for (file, storylet) in storylets(self.files) {
            self.offers(&storylet.choice, file, &storylet.id, report);
        }
        self.offers(&self.files.pack.sequel, "pack", "sequel", report);
    }

    fn offers(&self, offers: &[Offer], file: &str, item: &str, report: &mut Report<'_>) {
        if !(2..=4).contains(&offers.len()) {
            report.add(file, item, format!("{} choices, 2 to 4 wanted", offers.len()));
        }
        let mut pulls = BTreeSet::new();
        for offer in offers {
            let label = source(&offer.label);
            self.effects(&offer.effects, file, item, report);
            if !(1..=3).contains(&offer.effects.len()) {
                report.add(file, item, format!("“{label}” moves {}", offer.effects.len()));
            }
            if !pulls.insert(strongest(&offer.effects)) {
                report.add(file, item, format!("“{label}” pulls where another does"));
            }
            if offer.then.is_empty() {
                report.add(file, item, format!("“{label}” has no consequence"));
            }
            // A sequel is answered at once and owes nothing.
            if item != "sequel" && offer.later.is_empty() {
                report.add(file, item, format!("“{label}” has no late consequence"));
            }
        }
    }
}
