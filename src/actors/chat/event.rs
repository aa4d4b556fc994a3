//! What of an answer is told as it comes, in the order it happens.

use serde::Serialize;

use crate::domain::ids::{ChatId, SceneId};
use crate::domain::scenario::Usage;
use crate::error::ServiceError;

/// The nodes of the graph, in the order they are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// What is asked, and what to look for.
    Understand,
    /// Scenes of the story and things of the world that bear on it.
    LookUp,
    /// The words, by whoever can give them.
    Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Started,
    Done,
    /// Done without something that could not be had.
    Partial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    Complete,
    /// Cut at the length limit.
    Length,
}

/// Every answer begins with [`Event::Started`] and ends with [`Event::Done`] or [`Event::Failed`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
pub enum Event {
    /// Who is asked first.
    #[serde(rename = "chat.started")]
    Started { chat: ChatId, provider: String, model: String },
    #[serde(rename = "step")]
    Step { name: Step, status: Status },
    /// Something that the answer may cite as `[n]`: a scene, or a page of the web.
    #[serde(rename = "source")]
    Source { n: usize, title: String, url: Option<String>, scene: Option<SceneId>, snippet: String },
    /// `off`: UTF-16 code units of the answer before this.
    #[serde(rename = "text.delta")]
    Delta { off: usize, text: String },
    /// Somebody else goes on at `off`.
    #[serde(rename = "chat.failover")]
    Failover { from: String, to: String, off: usize, reason: String },
    /// `sources` were cited.
    #[serde(rename = "chat.done")]
    Done { finish: Finish, usage: Usage, sources: Vec<usize> },
    #[serde(rename = "chat.failed")]
    Failed { error: &'static str, message: String, retryable: bool },
}

impl Event {
    pub const fn kind(&self) -> &'static str {
        match self {
            Event::Started { .. } => "chat.started",
            Event::Step { .. } => "step",
            Event::Source { .. } => "source",
            Event::Delta { .. } => "text.delta",
            Event::Failover { .. } => "chat.failover",
            Event::Done { .. } => "chat.done",
            Event::Failed { .. } => "chat.failed",
        }
    }

    pub const fn is_last(&self) -> bool {
        matches!(self, Event::Done { .. } | Event::Failed { .. })
    }
}

impl From<ServiceError> for Event {
    fn from(error: ServiceError) -> Self {
        Event::Failed {
            error: error.code.as_str(),
            retryable: error.code.retryable(),
            message: error.message.into_owned(),
        }
    }
}
