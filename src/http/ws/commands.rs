//! What a client can ask for that takes time: done beside the connection's loop, answered when it is over. A job keeps
//! the span that it was made in.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::json;
use tracing::Instrument;

use super::frames;
use super::frames::{Ask, Close, ServerFrame};
use crate::actors::gateway::SocketPlace;
use crate::actors::generation::{Attached, Wake};
use crate::domain::ids::{ScenarioId, TurnId};
use crate::domain::turn::Request;
use crate::domain::user::Caller;
use crate::error::{Code, ServiceError};
use crate::http::AppState;
use crate::http::limit::too_many;

pub type Job = BoxFuture<'static, Done>;

/// What came of it.
pub enum Done {
    /// One frame is the answer.
    Answer(String),
    Admitted {
        id: Option<String>,
        caller: Caller,
        place: SocketPlace,
    },
    Attached {
        id: Option<String>,
        attached: Box<Attached>,
    },
    Close(Close),
}

/// Lets a caller in: its account must be there and not suspended, and there must be a place.
pub fn admit(state: AppState, caller: Caller, id: Option<String>) -> Job {
    let job = async move {
        match state.users.find(caller.user).await {
            Ok(Some(user)) if user.suspended_at.is_some() => return Done::Close(Close::Banned),
            Ok(Some(_)) => {}
            Ok(None) => return Done::Close(Close::Unauthorized),
            Err(error) => {
                tracing::warn!(%error, "account could not be looked up");
                return Done::Close(Close::ServerError);
            }
        }
        match state.gateway.admit_socket(caller.user) {
            Some(place) => Done::Admitted { id, caller, place },
            None => Done::Close(Close::ConnectionLimit),
        }
    };
    Box::pin(job.in_current_span())
}

/// Attaches to a scenario; `id` is missing when the server itself has to attach anew.
pub fn attach(
    state: AppState,
    caller: Caller,
    id: Option<String>,
    scenario: ScenarioId,
    epoch: Option<String>,
    after: u64,
    wake: Arc<Wake>,
) -> Job {
    let job = async move {
        let attached =
            state.generation.attach(caller.user, scenario, epoch.as_deref(), after, &wake).await;
        match (attached, id) {
            (Ok(attached), id) => Done::Attached { id, attached: Box::new(attached) },
            (Err(error), Some(id)) => Done::Answer(frames::error(&id, &error)),
            (Err(error), None) => {
                tracing::warn!(%scenario, %error, "reader could not be attached anew");
                Done::Close(Close::ServerError)
            }
        }
    };
    Box::pin(job.in_current_span())
}

/// Starts or stops a turn.
pub fn play(state: AppState, caller: Caller, id: String, ask: Ask) -> Job {
    let job = async move {
        let turn = match ask {
            Ask::Turn { scenario, body, idem } => {
                async {
                    let scenario = scenario_id(&scenario)?;
                    let command = body.into_command()?;
                    match state.limits.turn(caller.user).await {
                        Some(limit) if !limit.allowed => return Err(too_many(&limit)),
                        _ => {}
                    }
                    let turn = TurnId::new(state.clock.now());
                    let key = idem.map(|idem| format!("ws:{idem}"));
                    let request = Request { command, key, turn };
                    state.generation.command(caller.user, scenario, request).await
                }
                .await
            }
            Ask::Stop { scenario, turn } => {
                async {
                    let scenario = scenario_id(&scenario)?;
                    let missing = |_| ServiceError::new(Code::TurnNotFound, "no such turn");
                    let turn: TurnId = turn.parse().map_err(missing)?;
                    state.generation.stop(caller.user, scenario, turn).await.map(|()| turn)
                }
                .await
            }
            _ => Err(ServiceError::internal()),
        };
        Done::Answer(match turn {
            Ok(turn) => {
                let result = json!({ "turn": turn.to_string() });
                ServerFrame::Ack { id: &id, result }.encode()
            }
            Err(error) => {
                // As requests are: what is no fault of the caller's is worth a look.
                if error.code.status() >= 500 {
                    tracing::warn!(%error, "command refused");
                } else {
                    tracing::debug!(%error, "command refused");
                }
                frames::error(&id, &error)
            }
        })
    };
    Box::pin(job.in_current_span())
}

pub fn scenario_id(text: &str) -> Result<ScenarioId, ServiceError> {
    text.parse().map_err(|_| ServiceError::scenario_not_found())
}
