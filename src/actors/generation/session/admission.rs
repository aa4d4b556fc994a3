//! Which commands a session takes on: against the scene it stands at, and against what it answered before.

use tokio::sync::oneshot;

use super::{Current, Ready, Telling};
use crate::actors::generation::checkpoint::idempotency_conflict;
use crate::actors::generation::turn::Answer;
use crate::domain::ids::{SceneId, TurnId};
use crate::domain::turn::{Command, Request};
use crate::error::{Code, ServiceError};

impl Ready {
    /// Whether the command may become a turn; `Some` is the answer that it got before.
    pub(super) fn admit(&self, request: &Request) -> Result<Option<TurnId>, ServiceError> {
        let key = request.key.clone().unwrap_or_else(|| request.turn.to_string());
        if let Some(turn) = self.checkpoint.find_answer(&key, &request.command)? {
            return Ok(Some(turn));
        }
        match &request.command {
            Command::Begin if self.checkpoint.next_scene > SceneId::FIRST => {
                Err(ServiceError::new(Code::Conflict, "this scenario has begun already"))
            }
            Command::Begin
            | Command::Retry { .. }
            | Command::Edit { .. }
            | Command::Jump { .. } => Ok(None),
            Command::Say { scene, .. } => self.at(*scene).map(|_| None),
            Command::Choose { scene, choice } => {
                let current = self.at(*scene)?;
                match current.choices.iter().any(|offered| offered.id == *choice) {
                    true => Ok(None),
                    false => Err(ServiceError::invalid_field("choice", "is not offered here")),
                }
            }
        }
    }

    fn at(&self, scene: SceneId) -> Result<&Current, ServiceError> {
        match &self.current {
            Some(current) if current.scene == scene => Ok(current),
            Some(current) if scene >= self.checkpoint.next_scene || current.scene.0 == 0 => {
                Err(ServiceError::scene_not_found())
            }
            Some(current) => Err(ServiceError::new(
                Code::StaleScene,
                format!("the story goes on from {} now", current.scene),
            )),
            None => Err(ServiceError::scene_not_found()),
        }
    }
}

impl Telling {
    /// Whether the turn has said that it is over, and the command is a new one.
    pub(super) fn is_nearly_over_for(&self, request: &Request) -> bool {
        let key = request.key.as_ref();
        self.signals.is_over()
            && self.asked.as_ref().is_none_or(|asked| key != Some(&asked.key))
            && key.is_none_or(|key| {
                matches!(self.answered.find_answer(key, &request.command), Ok(None))
            })
    }

    /// Answers a command that comes while the turn runs: a repeat gets the first answer, anything else has to wait.
    pub(super) fn answer(&self, request: &Request, asker: oneshot::Sender<Answer>) {
        let key = request.key.as_ref();
        if let Some(asked) = self.asked.as_ref().filter(|asked| key == Some(&asked.key)) {
            if asked.command != request.command {
                let _ = asker.send(Err(idempotency_conflict().into()));
                return;
            }
            // Not before the first one is: the command may yet be refused.
            let mut answer = asked.answer.clone();
            tokio::spawn(async move {
                if let Ok(answer) = answer.wait_for(Option::is_some).await
                    && let Some(answer) = answer.clone()
                {
                    let _ = asker.send(answer);
                }
            });
            return;
        }
        let known = key.map(|key| self.answered.find_answer(key, &request.command));
        let _ = asker.send(match known.transpose().map(Option::flatten) {
            Ok(Some(turn)) => Ok(turn),
            Ok(None) => {
                let text = "a turn of this scenario is running";
                Err(ServiceError::new(Code::TurnInProgress, text).into())
            }
            Err(error) => Err(error.into()),
        });
    }
}
