//! What a session keeps beside its log, replaced atomically with the events it belongs to: the open turn, and the
//! answers given to recent commands. With it any replica can take a session over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::ids::{SceneId, TurnId};
use crate::domain::scenario::{Finish, Via, content_hash};
use crate::domain::turn::Command;
use crate::error::{Code, ServiceError};

/// Answers are kept this long,
const KEEP_ANSWERS: Duration = Duration::from_secs(24 * 3600);
/// and at most so many.
const MAX_ANSWERS: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub next_scene: SceneId,
    pub open: Option<OpenTurn>,
    /// Shared, so that a copy costs little however many there are.
    answers: Arc<VecDeque<Answer>>,
}

/// A turn that has begun and is not over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenTurn {
    pub turn: TurnId,
    pub scene: SceneId,
    pub parent: Option<SceneId>,
    pub via: Via,
    /// `seq` of its `turn.started`.
    pub from: u64,
    /// Set once its text will not grow any more for another reason than that it is complete.
    pub finish: Option<Finish>,
    /// How often it was taken up.
    pub attempts: u32,
}

/// A command that was accepted, by its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Answer {
    key: String,
    /// Tells the command from another one under the same key.
    print: String,
    turn: TurnId,
    at: Timestamp,
    /// `seq` of the turn's last event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<u64>,
}

impl Checkpoint {
    /// For a session without one.
    pub fn new(next_scene: SceneId) -> Self {
        Self { next_scene, open: None, answers: Arc::default() }
    }

    pub fn encode(&self) -> Bytes {
        Bytes::from(serde_json::to_vec(self).expect("a checkpoint has string keys only"))
    }

    /// # Errors
    /// If the bytes are not a checkpoint of this version.
    pub fn decode(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes)
    }

    /// The turn that a command with this key was answered with.
    ///
    /// # Errors
    /// `idempotency_conflict` if the key was used for another command.
    pub fn find_answer(
        &self,
        key: &str,
        command: &Command,
    ) -> Result<Option<TurnId>, ServiceError> {
        match self.answers.iter().find(|answer| answer.key == key) {
            None => Ok(None),
            Some(answer) if answer.print == print(command) => Ok(Some(answer.turn)),
            Some(_) => Err(idempotency_conflict()),
        }
    }

    /// Notes a command as accepted, and forgets old ones.
    pub fn accept(&mut self, key: String, command: &Command, turn: TurnId, now: Timestamp) {
        let answers = Arc::make_mut(&mut self.answers);
        while answers
            .front()
            .is_some_and(|answer| age(answer, now) > KEEP_ANSWERS || answers.len() >= MAX_ANSWERS)
        {
            answers.pop_front();
        }
        answers.push_back(Answer { key, print: print(command), turn, at: now, last: None });
    }

    /// Notes the open turn as over; `last` is the `seq` of its last event.
    pub fn close(&mut self, last: u64) {
        let Some(open) = self.open.take() else { return };
        let answers = Arc::make_mut(&mut self.answers);
        if let Some(answer) = answers.iter_mut().rfind(|answer| answer.turn == open.turn) {
            answer.last = Some(last);
        }
    }

    /// The same for a log that begins anew: no `seq` of the lost one means anything, and no stored scene is told again.
    pub fn begun_anew(&self, next_scene: SceneId) -> Self {
        let forget = |answer: &Answer| Answer { last: None, ..answer.clone() };
        Self {
            next_scene: self.next_scene.max(next_scene),
            open: self.open.clone(),
            answers: Arc::new(self.answers.iter().map(forget).collect()),
        }
    }

    /// The last `seq` of the turns that were begun longer ago than `retention`.
    pub fn trimmable(&self, retention: Duration, now: Timestamp) -> Option<u64> {
        self.answers
            .iter()
            .take_while(|answer| age(answer, now) > retention)
            .filter_map(|answer| answer.last)
            .max()
    }
}

pub fn idempotency_conflict() -> ServiceError {
    let text = "this idempotency key was used for another command";
    ServiceError::new(Code::IdempotencyConflict, text)
}

fn age(answer: &Answer, now: Timestamp) -> Duration {
    now.duration_since(answer.at).try_into().unwrap_or(Duration::ZERO)
}

fn print(command: &Command) -> String {
    let json = serde_json::to_string(command).unwrap_or_default();
    content_hash(&json)[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_repeat_gets_the_first_answer_and_another_command_a_conflict() {
        let mut checkpoint = Checkpoint::new(SceneId::FIRST);
        let say = |text: &str| Command::Say { scene: SceneId(1), text: text.into() };
        let turn = TurnId(Uuid::max());
        checkpoint.accept("k".into(), &say("go"), turn, at(0));
        let checkpoint = Checkpoint::decode(&checkpoint.encode()).unwrap();
        assert_eq!(checkpoint.find_answer("k", &say("go")).unwrap(), Some(turn));
        assert_eq!(checkpoint.find_answer("other", &say("go")).unwrap(), None);
        let error = checkpoint.find_answer("k", &say("stay")).unwrap_err();
        assert_eq!(error.code, Code::IdempotencyConflict);
    }

    #[test]
    fn answers_and_events_are_forgotten_when_their_time_is_over() {
        let mut checkpoint = Checkpoint::new(SceneId::FIRST);
        for turn in 0..3_u32 {
            let id = TurnId(Uuid::from_u128(turn.into()));
            checkpoint.accept(format!("k{turn}"), &Command::Begin, id, at(i64::from(turn) * 3600));
            checkpoint.open = Some(OpenTurn {
                turn: id,
                scene: SceneId(turn + 1),
                parent: None,
                via: Via::Prompt,
                from: 1,
                finish: None,
                attempts: 0,
            });
            checkpoint.close(u64::from(turn + 1) * 10);
        }
        assert_eq!(checkpoint.trimmable(Duration::from_secs(3600), at(7200)), Some(10));
        assert_eq!(checkpoint.trimmable(Duration::from_secs(99_999), at(7200)), None);
        let day = 24 * 3600;
        checkpoint.accept("new".into(), &Command::Begin, TurnId(Uuid::max()), at(day + 3601));
        assert!(checkpoint.find_answer("k0", &Command::Begin).unwrap().is_none());
        assert!(checkpoint.find_answer("k2", &Command::Begin).unwrap().is_some());
    }
}
