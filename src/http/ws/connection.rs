//! One socket: a single task that reads, writes and waits, and holds no queue for its reader.
//!
//! Events are taken from the tails only when the last write has left for the network, so a reader that is behind
//! costs a cursor; when it was behind, adjacent deltas are merged. Commands run beside the loop, one at a time: the
//! next frame is not read before the last one is answered.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures::future::BoxFuture;
use futures::{FutureExt, Sink, StreamExt};
use serde_json::json;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use uuid::Uuid;

use super::commands::{self, Done, Job, scenario_id};
use super::frames::{self, Ask, ClientFrame, Close, MAX_FRAME_BYTES, ServerFrame};
use super::merge::merge;
use super::pace::{Pace, Verdict};
use crate::actors::gateway::{GOING_AWAY_OVER, SocketPlace};
use crate::actors::generation::{Attached, LogReader, Taken, Wake};
use crate::domain::event::Frame;
use crate::domain::ids::ScenarioId;
use crate::domain::user::Caller;
use crate::error::{Code, ServiceError};
use crate::http::{AppState, wire};

/// Answers that may wait for the network; with more of them the client is not heard.
const MAX_UNSENT: usize = 64;
/// Longest that a closed socket is waited for.
const LINGER: Duration = Duration::from_secs(5);

pub struct Connection {
    socket: WebSocket,
    state: AppState,
    wake: Arc<Wake>,
    caller: Option<(Caller, SocketPlace)>,
    attachments: Vec<Attachment>,
    job: Option<Job>,
    /// Answers and other frames of the connection's own; a client gets no more than it asks for.
    outbox: VecDeque<String>,
    writing: Writing,
    pace: Pace,
    timer: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    times: Times,
}

struct Attachment {
    reader: LogReader,
    /// A page on its way from the store.
    older: Option<BoxFuture<'static, Page>>,
}

/// Stored frames, with their `seq`.
type Page = Result<Vec<(u64, Frame)>, ServiceError>;

#[derive(PartialEq, Eq)]
enum Writing {
    /// Everything has left for the network.
    Idle,
    /// Some of it is still here; `true` if the network would not take it.
    Flushing { waited: bool },
}

/// When something is due.
struct Times {
    opened: Instant,
    heard: Instant,
    pinged: Instant,
    /// Since when the reader has been behind.
    behind: Option<Instant>,
    /// When the socket is sent away.
    leave: Option<Instant>,
    token: Option<Instant>,
}

enum Happened {
    Inbound(Option<Result<Message, axum::Error>>),
    Job(Done),
    Older(usize, Page),
    Flushed(Result<(), axum::Error>),
    News,
    Time,
    Draining,
}

/// The loop ends; a code if it is to be told to the client.
type End = Option<Close>;

impl Connection {
    pub fn new(socket: WebSocket, state: AppState) -> Self {
        let now = Instant::now();
        let draining = Box::pin(state.gateway.draining().clone().cancelled_owned());
        Self {
            socket,
            wake: Arc::default(),
            caller: None,
            attachments: Vec::new(),
            job: None,
            outbox: VecDeque::new(),
            writing: Writing::Idle,
            pace: Pace::new(state.config.sockets.commands_per_second),
            timer: Box::pin(tokio::time::sleep_until(now)),
            draining,
            times: Times {
                opened: now,
                heard: now,
                pinged: now,
                behind: None,
                leave: None,
                token: None,
            },
            state,
        }
    }

    /// Serves the socket to its end. A caller known from the upgrade needs no hello.
    pub async fn run(mut self, caller: Option<Caller>) {
        metrics::counter!("whatif_sockets_opened_total").increment(1);
        if let Some(caller) = caller {
            self.job = Some(commands::admit(self.state.clone(), caller, None));
        }
        let end = loop {
            let happened = std::future::poll_fn(|context| self.poll(context)).await;
            if let Err(end) = self.handle(happened) {
                break end;
            }
            if let Err(end) = self.fill() {
                break end;
            }
        };
        let reason = end.map_or("client", Close::reason);
        metrics::counter!("whatif_sockets_closed_total", "reason" => reason).increment(1);
        if let Some(close) = end {
            self.refuse(close).await;
        }
    }

    /// Tells the client why, and reads on until it has gone.
    pub async fn refuse(self, close: Close) {
        let Self { mut socket, caller, attachments, .. } = self;
        drop((caller, attachments));
        let frame =
            CloseFrame { code: close.code(), reason: Utf8Bytes::from_static(close.reason()) };
        let _ = tokio::time::timeout(LINGER, async {
            if socket.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = socket.next().await {}
            }
        })
        .await;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Happened> {
        if let Some(job) = &mut self.job {
            if let Poll::Ready(done) = job.poll_unpin(context) {
                self.job = None;
                return Poll::Ready(Happened::Job(done));
            }
        } else if self.listens()
            && let Poll::Ready(message) = self.socket.poll_next_unpin(context)
        {
            return Poll::Ready(Happened::Inbound(message));
        }
        for (index, attachment) in self.attachments.iter_mut().enumerate() {
            if let Some(older) = &mut attachment.older
                && let Poll::Ready(page) = older.poll_unpin(context)
            {
                attachment.older = None;
                return Poll::Ready(Happened::Older(index, page));
            }
        }
        if let Writing::Flushing { waited } = &mut self.writing {
            match Pin::new(&mut self.socket).poll_flush(context) {
                Poll::Ready(flushed) => return Poll::Ready(Happened::Flushed(flushed)),
                Poll::Pending => {
                    *waited = true;
                    self.times.behind.get_or_insert_with(Instant::now);
                }
            }
        } else if self.wake.poll(context).is_ready() {
            return Poll::Ready(Happened::News);
        }
        if self.times.leave.is_none() && self.draining.poll_unpin(context).is_ready() {
            return Poll::Ready(Happened::Draining);
        }
        // The timer may go off early (the time was moved on since); that only costs a look.
        let due = self.due();
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
        self.timer.poll_unpin(context).map(|()| Happened::Time)
    }

    fn handle(&mut self, happened: Happened) -> Result<(), End> {
        match happened {
            Happened::Inbound(message) => self.inbound(message),
            Happened::Job(done) => self.done(done),
            Happened::Older(index, page) => self.older(index, page),
            Happened::Flushed(Err(_)) => Err(None),
            Happened::Flushed(Ok(())) => {
                if self.writing == (Writing::Flushing { waited: false }) {
                    self.times.behind = None;
                }
                self.writing = Writing::Idle;
                Ok(())
            }
            Happened::News => Ok(()),
            Happened::Time => self.time(),
            Happened::Draining => {
                // Not all at the same moment: they come back somewhere else.
                let after = GOING_AWAY_OVER.mul_f64(rand::random());
                let after_ms = u64::try_from(after.as_millis()).unwrap_or(0);
                self.outbox.push_back(ServerFrame::GoingAway { after_ms }.encode());
                self.times.leave = Some(Instant::now() + after);
                Ok(())
            }
        }
    }

    fn inbound(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.times.heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => {
                let frame = frames::parse(&text).ok_or(Some(Close::BadFrame))?;
                self.frame(frame)
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
            (Some((caller, _)), _) => *caller,
            (None, Ask::Hello { token: Some(token) }) => {
                let caller =
                    self.state.users.verify(token).map_err(|_| Some(Close::Unauthorized))?;
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
                    self.renew(fresh);
                    self.welcome(&id);
                }
                _ => return Err(Some(Close::Unauthorized)),
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
                    self.renew(fresh);
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

    fn done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Answer(frame) => self.outbox.push_back(frame),
            Done::Close(close) => return Err(Some(close)),
            Done::Admitted { id, caller, place } => {
                self.times.token = Some(self.expiry(&caller));
                self.caller = Some((caller, place));
                if let Some(id) = id {
                    self.welcome(&id);
                }
            }
            Done::Attached { id, attached } => self.attached(id, *attached),
        }
        Ok(())
    }

    fn attached(&mut self, id: Option<String>, attached: Attached) {
        let Attached { reader, head, snapshot } = attached;
        let scenario = reader.scenario();
        let before = self.attachments.iter().position(|a| a.reader.scenario() == scenario);
        if let Some(id) = id {
            let recovered = snapshot.is_none();
            let result =
                json!({ "epoch": &**reader.epoch(), "head": head, "recovered": recovered });
            self.ack(&id, result);
        } else if let Some(before) = before.map(|at| &self.attachments[at].reader) {
            let scenario = scenario.to_string();
            let (from, to) = (before.cursor() + 1, head);
            let gap = ServerFrame::Gap { scenario: &scenario, from, to }.encode();
            self.outbox.push_back(gap);
        }
        if let Some(snapshot) = snapshot {
            let frame = wire::snapshot(&scenario.to_string(), reader.epoch(), snapshot);
            self.outbox.push_back(frame.to_string());
        }
        let attachment = Attachment { reader, older: None };
        match before {
            Some(at) => self.attachments[at] = attachment,
            None => self.attachments.push(attachment),
        }
    }

    fn older(&mut self, index: usize, page: Page) -> Result<(), End> {
        let frames = page.map_err(|_| Some(Close::ServerError))?;
        let Some(attachment) = self.attachments.get_mut(index) else { return Ok(()) };
        if attachment.reader.advance(&frames) {
            return self.feed(frames).map_err(|_| None);
        }
        self.restart(index);
        Ok(())
    }

    /// The cursor means nothing any more: attach anew, from a snapshot.
    fn restart(&mut self, index: usize) {
        if self.job.is_none()
            && let (Some(attachment), Some((caller, _))) =
                (self.attachments.get(index), &self.caller)
        {
            let scenario = attachment.reader.scenario();
            let (state, wake) = (self.state.clone(), Arc::clone(&self.wake));
            let nowhere = Some("-".to_owned());
            self.job = Some(commands::attach(state, *caller, None, scenario, nowhere, 0, wake));
        }
    }

    /// Writes what there is, as soon as the last write has left.
    fn fill(&mut self) -> Result<(), End> {
        if self.writing != Writing::Idle {
            return Ok(());
        }
        while let Some(frame) = self.outbox.pop_front() {
            self.put(Message::Text(frame.into())).map_err(|_| None)?;
        }
        let budget = self.state.config.sockets.write_buffer_bytes;
        let share = budget / self.attachments.len().max(1);
        let mut level = true;
        for index in 0..self.attachments.len() {
            let attachment = &mut self.attachments[index];
            if attachment.older.is_some() {
                level = false;
                continue;
            }
            let mut frames = Vec::new();
            match attachment.reader.take(share, &mut frames) {
                Taken::Frames => {
                    level = false;
                    self.feed(frames).map_err(|_| None)?;
                }
                Taken::Level => {}
                Taken::Older => {
                    level = false;
                    attachment.older = Some(attachment.reader.read_older());
                }
                Taken::Lost => self.restart(index),
            }
        }
        if level && self.writing == Writing::Idle {
            self.times.behind = None;
        }
        Ok(())
    }

    fn feed(&mut self, frames: Vec<(u64, Frame)>) -> Result<(), axum::Error> {
        metrics::counter!("whatif_events_sent_total").increment(frames.len() as u64);
        if self.times.behind.is_some() && frames.len() > 1 {
            for frame in merge(frames) {
                self.put(text(&frame))?;
            }
        } else {
            for (_, frame) in frames {
                self.put(text(&frame))?;
            }
        }
        Ok(())
    }

    fn put(&mut self, message: Message) -> Result<(), axum::Error> {
        Pin::new(&mut self.socket).start_send(message)?;
        if self.writing == Writing::Idle {
            self.writing = Writing::Flushing { waited: false };
        }
        Ok(())
    }

    fn welcome(&mut self, id: &str) {
        let conn = Uuid::new_v4().to_string();
        let ping_s = self.state.config.sockets.ping_interval.as_secs();
        let welcome = ServerFrame::Welcome { id, conn: &conn, ping_s, max_frame: MAX_FRAME_BYTES };
        self.outbox.push_back(welcome.encode());
    }

    fn ack(&mut self, id: &str, result: serde_json::Value) {
        self.outbox.push_back(ServerFrame::Ack { id, result }.encode());
    }

    fn renew(&mut self, fresh: Caller) {
        if let Some((caller, _)) = &mut self.caller {
            *caller = fresh;
        }
        self.times.token = Some(self.expiry(&fresh));
    }

    fn expiry(&self, caller: &Caller) -> Instant {
        let left = caller.expires_at.duration_since(self.state.clock.now());
        Instant::now() + Duration::try_from(left).unwrap_or_default()
    }

    /// Whether the next frame is read: not while a command runs, nor while answers wait for a client to take them.
    fn listens(&self) -> bool {
        self.job.is_none() && self.outbox.len() < MAX_UNSENT
    }

    /// The next moment at which something may have to be done.
    fn due(&self) -> Instant {
        let limits = &self.state.config.sockets;
        let hello = self.caller.is_none().then_some(self.times.opened + limits.hello_timeout);
        let ping = self.times.pinged.max(self.times.heard) + limits.ping_interval;
        let dead = self.listens().then_some(self.times.heard + limits.pong_timeout);
        let slow = self.times.behind.map(|since| since + limits.slow_timeout);
        [hello, dead, slow, self.times.leave, self.times.token]
            .into_iter()
            .flatten()
            .fold(ping, Instant::min)
    }

    fn time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let limits = &self.state.config.sockets;
        if self.caller.is_none() && now >= self.times.opened + limits.hello_timeout {
            return Err(Some(Close::HelloTimeout));
        }
        // Silence means something only where somebody listens.
        if self.listens() && now >= self.times.heard + limits.pong_timeout {
            return Err(Some(Close::NoPong));
        }
        if self.times.behind.is_some_and(|since| now >= since + limits.slow_timeout) {
            return Err(Some(Close::SlowConsumer));
        }
        if self.times.leave.is_some_and(|leave| now >= leave) {
            return Err(Some(Close::GoingAway));
        }
        if self.times.token.is_some_and(|token| now >= token) {
            return Err(Some(Close::TokenExpired));
        }
        if now >= self.times.pinged.max(self.times.heard) + limits.ping_interval {
            self.times.pinged = now;
            // A ping that finds the buffer full waits for the next round.
            if self.writing == Writing::Idle {
                self.put(Message::Ping(bytes::Bytes::new())).map_err(|_| None)?;
            }
        }
        Ok(())
    }
}

fn text(frame: &Frame) -> Message {
    match Utf8Bytes::try_from(frame.bytes().clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Text(Utf8Bytes::default()),
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
