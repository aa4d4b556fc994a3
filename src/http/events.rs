//! `/scenarios/{id}/events`: the event log as server-sent events.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::AppState;
use super::error::{ApiError, ErrorBody};
use super::extract::{Authed, Path, Query};
use super::scenarios::scenario_id;
use super::wire;
use crate::actors::generation::{Attached, LogReader, Taken, Wake};
use crate::actors::user::Watch;
use crate::domain::event::Frame;
use crate::error::ServiceError;

/// A comment goes out after this long without an event (or after the sockets' ping interval, if that is shorter), so
/// that proxies keep the stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes handed to the connection at once.
const CHUNK_BYTES: usize = 16 * 1024;

pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(events))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// `<epoch>:<seq>` of the last event seen, for clients that cannot set `Last-Event-ID`; a bare `0` is the start.
    after: Option<String>,
}

/// The scenario's events from a position on, then live. Each has `id: <epoch>:<seq>`, `event: <type>` and the JSON as
/// `data`. A position that is not held any more is answered with one `snapshot` event.
#[utoipa::path(
    get, path = "/scenarios/{id}/events", tag = "turns", security(("bearer" = [])),
    params(
        ("id" = String, Path, format = "uuid"), EventsQuery,
        ("Last-Event-ID" = Option<String>, Header, description = "`<epoch>:<seq>` of the last event seen"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 422, body = ErrorBody), (status = 503, body = ErrorBody),
    )
)]
async fn events(
    State(state): State<AppState>,
    Authed(caller): Authed,
    Path(id): Path<String>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let scenario = scenario_id(&id)?;
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let (epoch, after) = position(last.or(query.after.as_deref()))?;
    let wake = Arc::new(Wake::default());
    let attached = state.generation.attach(caller.user, scenario, epoch, after, &wake).await?;
    let watch = state.users.watch(&caller, state.gateway.draining());
    let left = caller.expires_at.duration_since(state.clock.now());
    let until = Instant::now() + Duration::try_from(left).unwrap_or_default();
    let events = Events::new(state, watch, attached, wake, until);
    let body = Body::from_stream(stream::unfold(events, |mut events| async move {
        let chunk = events.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), events))
    }));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Buffering proxies (nginx) would turn a stream into a wait.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, body).into_response())
}

fn position(text: Option<&str>) -> Result<(Option<&str>, u64), ServiceError> {
    let bad = || ServiceError::invalid_field("after", "is not <epoch>:<seq>");
    match text.map(str::trim) {
        None | Some("" | "0") => Ok((None, 0)),
        Some(text) => {
            let (epoch, seq) = text.rsplit_once(':').ok_or_else(bad)?;
            Ok((Some(epoch), seq.parse().map_err(|_| bad())?))
        }
    }
}

struct Events {
    state: AppState,
    watch: Watch,
    reader: LogReader,
    wake: Arc<Wake>,
    /// Chunks that go out before anything else.
    ready: VecDeque<Bytes>,
    /// When the token runs out.
    until: Instant,
}

impl Events {
    fn new(
        state: AppState,
        watch: Watch,
        attached: Attached,
        wake: Arc<Wake>,
        until: Instant,
    ) -> Self {
        let mut events =
            Self { state, watch, reader: attached.reader, wake, ready: VecDeque::new(), until };
        // Headers alone do not tell a client that the stream is open.
        events.ready.push_back(Bytes::from_static(b":\n\n"));
        if let Some(snapshot) = attached.snapshot {
            events.add_snapshot(snapshot);
        }
        events
    }

    /// The next chunk; `None` ends the stream: the client comes back with its last id.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            if Instant::now() >= self.until || self.watch.told().is_cancelled() {
                return None;
            }
            let mut frames = Vec::new();
            match self.reader.take(CHUNK_BYTES, &mut frames) {
                Taken::Frames => return Some(self.encode(&frames)),
                Taken::Level => {
                    let pings = self.state.config.sockets.ping_interval;
                    let quiet = Instant::now() + KEEP_ALIVE.min(pings);
                    let news = poll_fn(|context| self.wake.poll(context));
                    tokio::select! {
                        () = self.watch.told().cancelled() => return None,
                        news = timeout_at(quiet.min(self.until), news) => match news {
                            Ok(()) => {}
                            Err(_) if Instant::now() >= self.until => {}
                            Err(_) => return Some(Bytes::from_static(b":\n\n")),
                        },
                    }
                }
                Taken::Older => {
                    let frames = self.reader.read_older().await.ok()?;
                    if self.reader.advance(&frames) {
                        return Some(self.encode(&frames));
                    }
                    self.restart().await?;
                }
                Taken::Lost => self.restart().await?,
            }
        }
    }

    /// The position means nothing any more: go on from a snapshot.
    async fn restart(&mut self) -> Option<()> {
        let (generation, scenario) = (&self.state.generation, self.reader.scenario());
        let nowhere = Some("-");
        let attached =
            generation.attach(self.watch.user(), scenario, nowhere, 0, &self.wake).await.ok()?;
        self.reader = attached.reader;
        self.add_snapshot(attached.snapshot?);
        Some(())
    }

    fn add_snapshot(&mut self, snapshot: crate::actors::generation::Snapshot) {
        let seq = snapshot.seq;
        let epoch = Arc::clone(self.reader.epoch());
        let data = wire::snapshot(&self.reader.scenario().to_string(), &epoch, snapshot);
        let chunk = format!("id: {epoch}:{seq}\nevent: snapshot\ndata: {data}\n\n");
        self.ready.push_back(chunk.into());
    }

    fn encode(&self, frames: &[(u64, Frame)]) -> Bytes {
        let epoch = self.reader.epoch();
        let mut chunk = String::with_capacity(frames.len() * 320);
        for (seq, frame) in frames {
            // JSON has no raw line breaks, so one data line is enough.
            let json = frame.as_str();
            let _ = write!(chunk, "id: {epoch}:{seq}\nevent: {}\ndata: {json}\n\n", frame.kind());
        }
        chunk.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_documented() {
        assert_eq!(position(None).unwrap(), (None, 0));
        assert_eq!(position(Some("0")).unwrap(), (None, 0));
        assert_eq!(position(Some("e9:412")).unwrap(), (Some("e9"), 412));
        for bad in ["412", "e9:", "e9:-1", ":x"] {
            assert!(position(Some(bad)).is_err(), "{bad}");
        }
    }
}
