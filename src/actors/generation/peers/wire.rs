//! What replicas say to each other: the one place that knows its wire form.
//!
//! A message is JSON: a head that every version understands, and a body. The head's `v` is the oldest version that
//! understands the body, so old and new replicas work together during a rolling deployment: fields may be added freely,
//! and who meets a newer body, or one it does not know, says `unsupported` and leaves the matter to the sender.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::domain::ids::{ScenarioId, TurnId};
use crate::domain::turn::{Command, Request};
use crate::error::{Code, FieldError, ServiceError};

/// The version of the bodies below.
const VERSION: u32 = 1;

/// What a replica asks of the one that owns a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Ask {
    Command {
        command: Command,
        /// Always present on its way between replicas: it is what makes asking again harmless.
        key: Option<String>,
        turn: TurnId,
    },
    Stop {
        turn: TurnId,
    },
    /// The scenario was deleted: end whatever lives of it.
    Forget,
}

impl Ask {
    pub fn command(request: Request) -> Self {
        let Request { command, key, turn } = request;
        Ask::Command { command, key, turn }
    }
}

#[derive(Debug, Clone)]
pub enum Reply {
    /// Done; the turn that it is about, if it is about one.
    Done(Option<TurnId>),
    Refused(ServiceError),
    /// The session does not live here.
    NotHere,
    /// Asked in a way that this version does not know.
    Unsupported,
}

/// A message that was read.
#[derive(Debug)]
pub enum Message {
    Ask {
        id: Uuid,
        from: String,
        scenario: ScenarioId,
        ask: Ask,
    },
    Reply {
        id: Uuid,
        reply: Reply,
    },
    /// An ask that this version cannot read.
    Unknown {
        id: Uuid,
        from: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    v: u32,
    /// Of the ask; its reply carries the same.
    id: Uuid,
    /// Whom to answer; absent in a reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct AskBody<A> {
    scenario: ScenarioId,
    #[serde(flatten)]
    ask: A,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
enum ReplyBody {
    Done {
        turn: Option<TurnId>,
    },
    Refused {
        error: String,
        message: String,
        #[serde(default)]
        details: Vec<(String, String)>,
        #[serde(default)]
        retry_after_ms: Option<u64>,
    },
    NotHere,
    #[serde(other)]
    Unsupported,
}

pub fn encode_ask(id: Uuid, from: &str, scenario: ScenarioId, ask: &Ask) -> Bytes {
    encode(id, Some(from.to_owned()), &AskBody { scenario, ask })
}

pub fn encode_reply(id: Uuid, reply: Reply) -> Bytes {
    let body = match reply {
        Reply::Done(turn) => ReplyBody::Done { turn },
        Reply::Refused(error) => {
            let detail = |detail: FieldError| (detail.field, detail.message);
            let millis = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            ReplyBody::Refused {
                error: error.code.as_str().into(),
                message: error.message.into_owned(),
                details: error.details.into_iter().map(detail).collect(),
                retry_after_ms: error.retry_after.map(millis),
            }
        }
        Reply::NotHere => ReplyBody::NotHere,
        Reply::Unsupported => ReplyBody::Unsupported,
    };
    encode(id, None, &body)
}

fn encode(id: Uuid, from: Option<String>, body: &impl Serialize) -> Bytes {
    const PLAIN: &str = "messages have string keys and finite numbers only";
    let body = serde_json::value::to_raw_value(body).expect(PLAIN);
    let envelope = Envelope { v: VERSION, id, from, body: &body };
    Bytes::from(serde_json::to_vec(&envelope).expect(PLAIN))
}

/// # Errors
/// If not even the head can be read.
pub fn decode(message: &[u8]) -> serde_json::Result<Message> {
    let Envelope { v, id, from, body } = serde_json::from_slice(message)?;
    let Some(from) = from else {
        let reply = serde_json::from_str(body.get()).unwrap_or(ReplyBody::Unsupported);
        return Ok(Message::Reply { id, reply: reply.into() });
    };
    let known = (v <= VERSION).then(|| serde_json::from_str::<AskBody<Ask>>(body.get()).ok());
    Ok(match known.flatten() {
        Some(AskBody { scenario, ask }) => Message::Ask { id, from, scenario, ask },
        None => Message::Unknown { id, from },
    })
}

impl From<ReplyBody> for Reply {
    fn from(body: ReplyBody) -> Self {
        match body {
            ReplyBody::Done { turn } => Reply::Done(turn),
            ReplyBody::Refused { error, message, details, retry_after_ms } => {
                let detail = |(field, message)| FieldError { field, message };
                Reply::Refused(ServiceError {
                    code: code(&error),
                    message: message.into(),
                    details: details.into_iter().map(detail).collect(),
                    retry_after: retry_after_ms.map(Duration::from_millis),
                })
            }
            ReplyBody::NotHere => Reply::NotHere,
            ReplyBody::Unsupported => Reply::Unsupported,
        }
    }
}

/// The codes that a session answers with. One that this version does not know is our own side's fault.
fn code(name: &str) -> Code {
    const ANSWERED: [Code; 17] = [
        Code::InvalidRequest,
        Code::InsufficientPermissions,
        Code::NotFound,
        Code::ScenarioNotFound,
        Code::SceneNotFound,
        Code::TurnNotFound,
        Code::Conflict,
        Code::StaleScene,
        Code::TurnInProgress,
        Code::IdempotencyConflict,
        Code::PayloadTooLarge,
        Code::ContentBlocked,
        Code::RateLimited,
        Code::BudgetExhausted,
        Code::ProviderUnavailable,
        Code::ServiceUnavailable,
        Code::Timeout,
    ];
    ANSWERED.into_iter().find(|code| code.as_str() == name).unwrap_or(Code::Internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::SceneId;

    const ID: Uuid = Uuid::from_u128(7);

    #[test]
    fn what_is_asked_and_answered_arrives_as_it_was_meant() {
        let scenario = ScenarioId(Uuid::from_u128(1));
        let turn = TurnId(Uuid::from_u128(2));
        let command = Command::Say { scene: SceneId(3), text: "say \"hi\"\n𝄞".into() };
        let asks = [
            Ask::Command { command, key: Some("ws:k".into()), turn },
            Ask::Command { command: Command::Begin, key: Some("begin".into()), turn },
            Ask::Stop { turn },
            Ask::Forget,
        ];
        for ask in asks {
            let read = decode(&encode_ask(ID, "a", scenario, &ask)).unwrap();
            let Message::Ask { id, from, scenario: of, ask: got } = read else {
                panic!("{read:?}")
            };
            assert_eq!((id, &*from, of), (ID, "a", scenario));
            assert_eq!(format!("{got:?}"), format!("{ask:?}"));
        }
        let error = ServiceError::invalid_field("choice", "is not offered here")
            .retry_after(Duration::from_millis(1_500));
        for reply in
            [Reply::Done(Some(turn)), Reply::Done(None), Reply::Refused(error), Reply::NotHere]
        {
            let read = decode(&encode_reply(ID, reply.clone())).unwrap();
            let Message::Reply { id, reply: got } = read else { panic!("{read:?}") };
            assert_eq!((id, format!("{got:?}")), (ID, format!("{reply:?}")));
        }
    }

    #[test]
    fn the_wire_form_is_what_replicas_of_other_versions_expect() {
        let turn = TurnId(Uuid::from_u128(2));
        let scenario = ScenarioId(Uuid::from_u128(1));
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(
            text(encode_ask(ID, "a", scenario, &Ask::Stop { turn })),
            r#"{"v":1,"id":"00000000-0000-0000-0000-000000000007","from":"a","body":{"scenario":"00000000-0000-0000-0000-000000000001","do":"stop","turn":"00000000-0000-0000-0000-000000000002"}}"#
        );
        assert_eq!(
            text(encode_reply(ID, Reply::NotHere)),
            r#"{"v":1,"id":"00000000-0000-0000-0000-000000000007","body":{"reply":"not_here"}}"#
        );
    }

    #[test]
    fn what_a_newer_replica_says_is_refused_cleanly_and_its_additions_are_ignored() {
        let ask = |v: u32, body: &str| {
            let message = format!(r#"{{"v":{v},"id":"{ID}","from":"n","new":1,"body":{body}}}"#);
            decode(message.as_bytes()).unwrap()
        };
        let scenario = ScenarioId(Uuid::from_u128(1));
        let stop = format!(
            r#"{{"scenario":"{scenario}","do":"stop","turn":"{}","why":"late"}}"#,
            TurnId(Uuid::from_u128(2))
        );
        assert!(matches!(ask(1, &stop), Message::Ask { ask: Ask::Stop { .. }, .. }));
        assert!(matches!(ask(2, &stop), Message::Unknown { .. }), "it says that we cannot read it");
        let dance = format!(r#"{{"scenario":"{scenario}","do":"dance"}}"#);
        assert!(matches!(ask(1, &dance), Message::Unknown { .. }));
        let message = format!(r#"{{"v":2,"id":"{ID}","body":{{"reply":"maybe","when":1}}}}"#);
        let read = decode(message.as_bytes()).unwrap();
        assert!(matches!(read, Message::Reply { reply: Reply::Unsupported, .. }));
        assert!(decode(b"not a message").is_err());
    }

    #[test]
    fn the_longest_text_that_a_reader_may_write_fits_into_a_message_in_most_scripts() {
        use crate::domain::scenario::MAX_EDIT_CHARS;
        let text = "に".repeat(MAX_EDIT_CHARS);
        let command = Command::Edit { scene: SceneId(1), text };
        let turn = TurnId(Uuid::from_u128(2));
        let ask = Ask::Command { command, key: Some("ws:k".into()), turn };
        let message = encode_ask(ID, "a", ScenarioId(Uuid::from_u128(1)), &ask);
        assert!(message.len() <= crate::storage::bus::MAX_MESSAGE_BYTES);
    }
}
