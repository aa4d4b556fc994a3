//! What the client says, and the answers that take no time.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Message;
use serde_json::json;
use tokio::time::Instant;

use super::{Connection, End};
use crate::domain::ids::ScenarioId;
use crate::domain::user::Caller;
use crate::error::{Code, ServiceError};
use crate::http::ws::commands::{self, scenario_id};
use crate::http::ws::frames::{self, Ask, ClientFrame, Close, MAX_FRAME_BYTES, ServerFrame};
use crate::http::ws::pace::Verdict;

impl Connection {
    pub(super) fn inbound(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
    ) -> Result<(), End> {
        self.times.heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => {
                let frame = frames::parse(&text).ok_or(Some(Close::BadFrame))?;
                // Whatever a command sets going takes this span along.
                let span = self.span(Some(&frame.id));
                span.in_scope(|| self.frame(frame))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Binary(_))) => Err(Some(Close::BadFrame)),
            Some(Err(error)) if is_violation(&error) => Err(Some(Close::BadFrame)),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(None),
        }
    }

    fn frame(&mut self, frame: ClientFrame) -> Result<(), End> {
        let ClientFrame { id, ask } = frame;
        match self.pace.ask() {
            Verdict::Go => {}
            Verdict::Enough => return Err(Some(Close::TooManyRequests)),
            Verdict::TooFast => {
                let error = ServiceError::new(Code::RateLimited, "too many commands a second");
                self.outbox.push_back(frames::error(&id, &error));
                return Ok(());
            }
        }
        let caller = match (&self.caller, &ask) {
            (Some(admitted), _) => admitted.caller,
            (None, Ask::Hello { token: Some(token) }) => {
                let verified = self.state.users.verify(token);
                let caller = verified.map_err(|error| Some(Close::of_token(&error)))?;
                self.job = Some(commands::admit(self.state.clone(), caller, Some(id)));
                return Ok(());
            }
            (None, _) => return Err(Some(Close::Unauthorized)),
        };
        match ask {
            Ask::Hello { token: None } => self.welcome(&id),
            // After a token in the header another one may come, but no bad one and nobody else's.
            Ask::Hello { token: Some(token) } => match self.state.users.verify(&token) {
                Ok(fresh) if fresh.user == caller.user => {
                    self.watch(fresh);
                    self.welcome(&id);
                }
                Ok(_) => return Err(Some(Close::Unauthorized)),
                Err(error) => return Err(Some(Close::of_token(&error))),
            },
            Ask::Attach { scenario, epoch, after } => match scenario_id(&scenario) {
                Ok(scenario) => self.attach(caller, id, scenario, epoch, after),
                Err(error) => self.outbox.push_back(frames::error(&id, &error)),
            },
            Ask::Detach { scenario } => {
                if let Ok(scenario) = scenario_id(&scenario) {
                    self.attachments.retain(|attachment| attachment.reader.scenario() != scenario);
                }
                self.ack(&id, json!({}));
            }
            Ask::Turn { .. } | Ask::Stop { .. } => {
                self.job = Some(commands::play(self.state.clone(), caller, id, ask));
            }
            Ask::Refresh { token } => match self.state.users.verify(&token) {
                Ok(fresh) if fresh.user == caller.user => {
                    self.watch(fresh);
                    self.ack(&id, json!({}));
                }
                Ok(_) => {
                    let error =
                        ServiceError::new(Code::InvalidToken, "this is another user's token");
                    self.outbox.push_back(frames::error(&id, &error));
                }
                Err(error) => self.outbox.push_back(frames::error(&id, &error)),
            },
            Ask::Ping => self.outbox.push_back(ServerFrame::Pong { id: &id }.encode()),
            Ask::Invalid(error) => self.outbox.push_back(frames::error(&id, &error)),
        }
        Ok(())
    }

    fn attach(
        &mut self,
        caller: Caller,
        id: String,
        scenario: ScenarioId,
        epoch: Option<String>,
        after: u64,
    ) {
        let known = self.attachments.iter().any(|known| known.reader.scenario() == scenario);
        let max = self.state.config.sockets.max_attachments;
        if !known && self.attachments.len() >= max {
            let text = format!("at most {max} scenarios can be attached to one socket");
            let error = ServiceError::new(Code::Conflict, text);
            self.outbox.push_back(frames::error(&id, &error));
            return;
        }
        let (state, wake) = (self.state.clone(), Arc::clone(&self.wake));
        self.job = Some(commands::attach(state, caller, Some(id), scenario, epoch, after, wake));
    }

    pub(super) fn welcome(&mut self, id: &str) {
        let conn = self.id.to_string();
        let ping_s = self.state.config.sockets.ping_interval.as_secs();
        let welcome = ServerFrame::Welcome { id, conn: &conn, ping_s, max_frame: MAX_FRAME_BYTES };
        self.outbox.push_back(welcome.encode());
    }

    pub(super) fn ack(&mut self, id: &str, result: serde_json::Value) {
        self.outbox.push_back(ServerFrame::Ack { id, result }.encode());
    }

    pub(super) fn expiry(&self, caller: &Caller) -> Instant {
        let left = caller.expires_at.duration_since(self.state.clock.now());
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    }
}

/// Whether the peer broke the WebSocket protocol (or our bounds) rather than the network failed.
fn is_violation(error: &axum::Error) -> bool {
    use tokio_tungstenite::tungstenite::Error;
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match source {
        Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => false,
        Some(Error::Capacity(_) | Error::Utf8(_) | Error::Protocol(_)) => true,
        _ => false,
    }
}
