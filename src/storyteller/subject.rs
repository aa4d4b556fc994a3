//! What a prompt is about, as far as the content knows: a topic, or at least a class of things; and the stretch of
//! years that its date falls into.

use serde::{Deserialize, Serialize};

use super::content::{Band, Class, Content, Period, Topic, phrase_hits};
use super::prompt::Prompt;

/// Known by its id, which means the same on every replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    Topic(String),
    Class(String),
}

impl Subject {
    /// The topic that the prompt's words hit most; a class when they hit none, at last the one without words.
    pub fn of(prompt: &Prompt, content: &Content) -> Option<Self> {
        let topics = content.topics.topic.iter().map(|topic| (&topic.id, &topic.words));
        let classes = content.topics.class.iter().map(|class| (&class.id, &class.words));
        best(topics, &prompt.words)
            .map(Subject::Topic)
            .or_else(|| best(classes, &prompt.words).map(Subject::Class))
            .or_else(|| {
                let any = content.topics.class.iter().find(|class| class.words.is_empty())?;
                Some(Subject::Class(any.id.clone()))
            })
    }

    pub fn topic<'c>(&self, content: &'c Content) -> Option<&'c Topic> {
        match self {
            Subject::Topic(id) => content.topics.topic.iter().find(|topic| topic.id == *id),
            Subject::Class(_) => None,
        }
    }

    pub fn class<'c>(&self, content: &'c Content) -> Option<&'c Class> {
        match self {
            Subject::Topic(_) => None,
            Subject::Class(id) => content.topics.class.iter().find(|class| class.id == *id),
        }
    }

    /// The age it implies.
    pub fn band(&self, content: &Content) -> Option<Band> {
        self.topic(content)?.band
    }
}

fn best<'c>(
    entries: impl Iterator<Item = (&'c String, &'c Vec<String>)>,
    words: &[String],
) -> Option<String> {
    let mut best = None;
    let mut most = 0;
    for (id, known) in entries {
        let hits = phrase_hits(known, words);
        if hits > most {
            (best, most) = (Some(id), hits);
        }
    }
    best.cloned()
}

pub fn period(content: &Content, year: i32) -> Option<&Period> {
    content.periods.iter().find(|period| (period.from..=period.to).contains(&year))
}
