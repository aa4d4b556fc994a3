//! Every passage of a file, each with the place where it stands. `resolve` gives slots their meaning by it, `lint`
//! reads by it.

use super::{
    CastFile, Common, EndingFile, Files, Offer, PackFile, PeriodFile, StoryFile, Storylet,
    TopicFile, VoiceFile,
};
use crate::storyteller::template::Template;

/// What a passage is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    More,
    Then,
    Later,
    Label,
    Hint,
    Detail,
    Pressure,
    Cause,
    Move,
    Reveal,
    Ending,
    Shared,
    /// Somebody else's sentence goes on with it.
    Broken,
    /// May quote what the reader said.
    Reply,
    /// May name whom the reader spoke of.
    Target,
    /// May name what is at hand.
    Subject,
}

/// Where a passage stands: its file without the ending, and the item by its id or key.
#[derive(Debug, Clone, Copy)]
pub struct Spot<'a> {
    pub file: &'static str,
    pub item: &'a str,
    pub kind: Kind,
}

pub type Visit<'v> = dyn FnMut(Spot<'_>, &mut Template) + 'v;

pub trait Walk {
    fn walk(&mut self, visit: &mut Visit<'_>);
}

fn all<'t>(
    file: &'static str,
    item: &str,
    kind: Kind,
    passages: impl IntoIterator<Item = &'t mut Template>,
    visit: &mut Visit<'_>,
) {
    for passage in passages {
        visit(Spot { file, item, kind }, passage);
    }
}

fn offer(file: &'static str, item: &str, offer: &mut Offer, visit: &mut Visit<'_>) {
    visit(Spot { file, item, kind: Kind::Label }, &mut offer.label);
    visit(Spot { file, item, kind: Kind::Hint }, &mut offer.hint);
    all(file, item, Kind::Then, &mut offer.then, visit);
    all(file, item, Kind::Later, &mut offer.later, visit);
}

fn storylet(file: &'static str, storylet: &mut Storylet, visit: &mut Visit<'_>) {
    let item = storylet.id.as_str();
    all(file, item, Kind::Text, &mut storylet.text, visit);
    all(file, item, Kind::More, &mut storylet.more, visit);
    for choice in &mut storylet.choice {
        offer(file, item, choice, visit);
    }
}

impl PackFile {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        const FILE: &str = "pack";
        all(FILE, "details", Kind::Detail, &mut self.details, visit);
        all(FILE, "details_old", Kind::Detail, &mut self.details_old, visit);
        all(FILE, "details_industrial", Kind::Detail, &mut self.details_industrial, visit);
        all(FILE, "details_modern", Kind::Detail, &mut self.details_modern, visit);
        for pressure in &mut self.pressure {
            let lines = pressure.low.iter_mut().chain(&mut pressure.high);
            all(FILE, &pressure.key, Kind::Pressure, lines, visit);
        }
        for cause in &mut self.cause {
            all(FILE, "cause", Kind::Cause, &mut cause.text, visit);
        }
        storylet(FILE, &mut self.opening, visit);
        for sequel in &mut self.sequel {
            offer(FILE, "sequel", sequel, visit);
        }
    }
}

impl CastFile {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        for part in &mut self.role {
            for goal in &mut part.goal {
                all("cast", &part.key, Kind::Move, &mut goal.moves, visit);
            }
            if let Some(secret) = &mut part.secret {
                all("cast", &part.key, Kind::Reveal, &mut secret.reveal, visit);
            }
        }
    }
}

impl StoryFile {
    fn walk(&mut self, file: &'static str, visit: &mut Visit<'_>) {
        for each in &mut self.storylet {
            storylet(file, each, visit);
        }
    }
}

impl EndingFile {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        for ending in &mut self.ending {
            all("endings", &ending.id, Kind::Ending, &mut ending.text, visit);
            all("endings", &ending.id, Kind::More, &mut ending.more, visit);
        }
    }
}

impl Walk for Files {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        self.pack.walk(visit);
        self.cast.walk(visit);
        self.early.walk("early", visit);
        self.middle.walk("middle", visit);
        self.late.walk("late", visit);
        self.papers.walk("papers", visit);
        self.endings.walk(visit);
    }
}

impl Walk for Common {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        const FILE: &str = "common";
        for (operator, lines) in &mut self.hinge {
            all(FILE, operator, Kind::Shared, lines, visit);
        }
        for (operator, lines) in &mut self.stakes {
            all(FILE, operator, Kind::Shared, lines, visit);
        }
        for (whom, lines) in &mut self.target {
            let kind = if whom == "other" { Kind::Target } else { Kind::Shared };
            all(FILE, whom, kind, lines, visit);
        }
        all(FILE, "turned", Kind::Reply, &mut self.turned, visit);
        all(FILE, "kept", Kind::Reply, &mut self.kept, visit);
        all(FILE, "quoted", Kind::Shared, &mut self.quoted, visit);
        all(FILE, "details", Kind::Shared, &mut self.details, visit);
        all(FILE, "again", Kind::Shared, &mut self.again, visit);
        all(FILE, "harsh", Kind::Shared, &mut self.harsh, visit);
        all(FILE, "gentle", Kind::Shared, &mut self.gentle, visit);
        all(FILE, "broken", Kind::Broken, &mut self.broken, visit);
        for intent in &mut self.intent {
            all(FILE, &intent.id, Kind::Reply, &mut intent.then, visit);
            all(FILE, &intent.id, Kind::Subject, &mut intent.label, visit);
            visit(Spot { file: FILE, item: &intent.id, kind: Kind::Hint }, &mut intent.hint);
        }
    }
}

impl Walk for VoiceFile {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        for voice in &mut self.voice {
            all("voices", &voice.id, Kind::Shared, &mut voice.lines, visit);
        }
    }
}

impl Walk for TopicFile {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        for topic in &mut self.topic {
            all("topics", &topic.id, Kind::Shared, &mut topic.lines, visit);
            all("topics", &topic.id, Kind::Shared, &mut topic.gone, visit);
        }
        for class in &mut self.class {
            all("topics", &class.id, Kind::Shared, &mut class.lines, visit);
        }
    }
}

impl Walk for PeriodFile {
    fn walk(&mut self, visit: &mut Visit<'_>) {
        for period in &mut self.period {
            all("periods", &period.id, Kind::Shared, &mut period.lines, visit);
        }
    }
}
