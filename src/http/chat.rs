//! `/chat/stream`: a question to the companion, and its answer as server-sent events.

use std::fmt::Write as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Authed, Json};
use super::scenarios::scenario_id;
use crate::actors::chat::{Answer, Ends, Event, Question};
use crate::actors::user::Watch;
use crate::error::ServiceError;

/// A comment goes out after this long without an event (or after the sockets' ping interval, if that is shorter).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(ask))
}

/// A question.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChatQuestion)]
struct QuestionBody {
    /// The scenario that it is about; left out: the world at large.
    #[serde(default)]
    #[schema(format = "uuid")]
    scenario: Option<String>,
    /// The chat that it goes on with, as `chat.started` named it; left out: a new one. One that is not the caller's, is
    /// about another scenario, or is forgotten, begins empty.
    #[serde(default)]
    #[schema(format = "uuid")]
    chat: Option<String>,
    /// 1 to 2,000 characters.
    #[schema(min_length = 1, max_length = 2000)]
    message: String,
    /// Of the answer, such as `en` or `pt-BR`; left out: the scenario's, else the question's.
    #[serde(default)]
    language: Option<String>,
}

impl QuestionBody {
    fn question(self) -> Result<Question, ServiceError> {
        let chat = self.chat.map(|chat| {
            chat.parse().map_err(|_| ServiceError::invalid_field("chat", "is not a chat's id"))
        });
        Ok(Question {
            scenario: self.scenario.as_deref().map(scenario_id).transpose()?,
            chat: chat.transpose()?,
            message: self.message,
            language: self.language,
        })
    }
}

/// Asks the companion about a scenario. The answer is an event stream that ends by itself: `chat.started`, `step`, `source`,
/// `text.delta`, `chat.failover`, and at last `chat.done` or `chat.failed`. Closing it cancels the answer.
#[utoipa::path(
    post, path = "/chat/stream", operation_id = "ask_companion", tag = "chat", security(("bearer" = [])),
    request_body = QuestionBody,
    responses(
        (status = 200, content_type = "text/event-stream", body = String), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 402, body = ErrorBody, description = "`budget_exhausted`"),
        (status = 404, body = ErrorBody, description = "`scenario_not_found`"),
        (status = 409, body = ErrorBody, description = "`conflict`: the chat is being answered in"),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody), (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn ask(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Json(body): Json<QuestionBody>,
) -> Result<Response, ApiError> {
    let question = body.question()?;
    // Of its own: a draining replica lets a running answer go on for a while.
    let watch = state.users.watch(&caller, &CancellationToken::new());
    let ends = Ends { revoked: watch.told().clone(), draining: state.gateway.draining().clone() };
    let answer = state.chat.ask(caller.user, question, ends).await?;
    let quiet = KEEP_ALIVE.min(state.config.sockets.ping_interval);
    let told = Telling { answer, quiet, _watch: watch };
    let body = Body::from_stream(stream::unfold(told, |mut told| async move {
        let chunk = told.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), told))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Buffering proxies (nginx) would turn a stream into a wait.
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

struct Telling {
    answer: Answer,
    quiet: Duration,
    /// As long as it is told, what becomes of its caller is of interest.
    _watch: Watch,
}

impl Telling {
    async fn next(&mut self) -> Option<Bytes> {
        match timeout(self.quiet, self.answer.next()).await {
            Ok(events) => Some(encode(&events?)),
            Err(_) => Some(Bytes::from_static(b":\n\n")),
        }
    }
}

fn encode(events: &[Event]) -> Bytes {
    let mut chunk = String::with_capacity(events.len() * 160);
    for event in events {
        // JSON has no raw line breaks, so one data line is enough.
        match serde_json::to_string(event) {
            Ok(json) => {
                let _ = write!(chunk, "event: {}\ndata: {json}\n\n", event.kind());
            }
            Err(error) => tracing::error!(%error, "event cannot be written as JSON"),
        }
    }
    chunk.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::chat::{Finish, Status, Step};
    use crate::domain::scenario::Usage;

    #[test]
    fn events_look_as_documented() {
        let usage = Usage { input_tokens: 7, output_tokens: 5 };
        let failed = ServiceError::timeout("the companion");
        let chunk = encode(&[
            Event::Step { name: Step::LookUp, status: Status::Partial },
            Event::Delta { off: 3, text: "a\nb".into() },
            Event::Done { finish: Finish::Complete, usage, sources: vec![1, 3] },
            failed.into(),
        ]);
        let text = std::str::from_utf8(&chunk).unwrap();
        insta::assert_snapshot!(text, @r#"
        event: step
        data: {"type":"step","name":"look_up","status":"partial"}

        event: text.delta
        data: {"type":"text.delta","off":3,"text":"a\nb"}

        event: chat.done
        data: {"type":"chat.done","finish":"complete","usage":{"input_tokens":7,"output_tokens":5},"sources":[1,3]}

        event: chat.failed
        data: {"type":"chat.failed","error":"timeout","message":"the companion did not answer in time","retryable":true}
        "#);
    }
}
