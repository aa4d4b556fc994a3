//! One socket: a single task that reads (`inbound`), writes (`feed`) and waits (`times`), and holds no queue for its
//! reader.
//!
//! Events are taken from the tails only when the last write has left for the network, so a reader that is behind
//! costs a cursor; when it was behind, adjacent deltas are merged. Commands run beside the loop, one at a time: the
//! next frame is not read before the last one is answered.

mod feed;
mod inbound;
mod times;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures::future::BoxFuture;
use futures::{FutureExt, Sink, SinkExt, StreamExt};
use metrics::Counter;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::Span;
use uuid::Uuid;

use self::times::Times;
use super::commands::{self, Done, Job};
use super::frames::{Close, ServerFrame};
use super::pace::Pace;
use crate::actors::gateway::{GOING_AWAY_OVER, SocketPlace};
use crate::actors::generation::{LogReader, Wake};
use crate::actors::user::{Standing, Watch};
use crate::domain::event::Frame;
use crate::domain::user::Caller;
use crate::error::ServiceError;
use crate::http::AppState;

/// Longest that answers may take to leave before the socket is closed.
const PARTING: Duration = Duration::from_secs(1);
/// Longest that a closed socket is waited for.
const LINGER: Duration = Duration::from_secs(5);
/// Writes in a row before the client is heard.
const RELAY_ROUNDS: usize = 8;

pub struct Connection {
    /// Names it to its client and in the logs.
    id: Uuid,
    /// The id of the request that opened it.
    request: Box<str>,
    socket: WebSocket,
    state: AppState,
    wake: Arc<Wake>,
    caller: Option<Admitted>,
    attachments: Vec<Attachment>,
    job: Option<Job>,
    /// Answers and other frames of the connection's own; a client gets no more than it asks for.
    outbox: VecDeque<String>,
    writing: Writing,
    pace: Pace,
    timer: Pin<Box<Sleep>>,
    /// That the replica drains, or that the caller may not stay.
    told: Pin<Box<WaitForCancellationFutureOwned>>,
    times: Times,
    events_sent: Counter,
}

/// Who is in.
struct Admitted {
    caller: Caller,
    watch: Watch,
    _place: SocketPlace,
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

enum Happened {
    Inbound(Option<Result<Message, axum::Error>>),
    Job(Done),
    Older(usize, Page),
    /// The socket or the feed is over.
    Ended(End),
    Time,
    Told,
}

/// The loop ends; a code if it is to be told to the client.
type End = Option<Close>;

impl Connection {
    pub fn new(socket: WebSocket, state: AppState, id: Uuid, request: Box<str>) -> Self {
        let now = Instant::now();
        let told = Box::pin(state.gateway.draining().clone().cancelled_owned());
        Self {
            id,
            request,
            socket,
            wake: Arc::default(),
            caller: None,
            attachments: Vec::new(),
            job: None,
            outbox: VecDeque::new(),
            writing: Writing::Idle,
            pace: Pace::new(state.config.sockets.commands_per_second),
            timer: Box::pin(tokio::time::sleep_until(now)),
            told,
            events_sent: metrics::counter!("whatif_events_sent_total"),
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

    /// For what a command sets going, so that its log lines are found by socket and request. There is none around the
    /// connection itself: it would be entered with every event, and held by every idle socket.
    fn span(&self, frame: Option<&str>) -> Span {
        let (request, conn) = (&*self.request, &self.id);
        tracing::info_span!(parent: None, "ws.command", request_id = request, %conn, frame_id = frame)
    }

    /// Serves the socket to its end. A caller known from the upgrade needs no hello.
    pub async fn run(mut self, caller: Option<Caller>) {
        metrics::counter!("whatif_sockets_opened_total").increment(1);
        if let Some(caller) = caller {
            let state = self.state.clone();
            self.job = Some(self.span(None).in_scope(|| commands::admit(state, caller, None)));
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
        self.end(end).await;
    }

    /// Ends the socket: what was asked before is answered as far as the network takes it at once, then the client is
    /// told why, and is read on until it has gone. A client that left first gets its own close back.
    pub async fn end(self, end: End) {
        let Self { mut socket, caller, attachments, job, outbox, .. } = self;
        // Its place is free from now on.
        drop((caller, attachments));
        if end.is_some() {
            let _ = tokio::time::timeout(PARTING, part(&mut socket, outbox, job)).await;
        }
        let _ = tokio::time::timeout(LINGER, async {
            if let Some(close) = end {
                let reason = Utf8Bytes::from_static(close.reason());
                let frame = CloseFrame { code: close.code(), reason };
                socket.send(Message::Close(Some(frame))).await?;
            }
            // Reading is also what sends the answer to a close, and what waits for one.
            while let Some(Ok(_)) = socket.next().await {}
            Ok::<(), axum::Error>(())
        })
        .await;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Happened> {
        if let Err(end) = self.relay(context) {
            return Poll::Ready(Happened::Ended(end));
        }
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
        if self.times.leave.is_none() && self.told.poll_unpin(context).is_ready() {
            return Poll::Ready(Happened::Told);
        }
        // The timer may go off early (the time was moved on since); that only costs a look.
        let due = self.due();
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
        self.timer.poll_unpin(context).map(|()| Happened::Time)
    }

    /// The hot way: what is written leaves, and news are written, without a turn of the loop for each.
    fn relay(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        for _ in 0..RELAY_ROUNDS {
            if let Writing::Flushing { waited } = &mut self.writing {
                match Pin::new(&mut self.socket).poll_flush(context) {
                    Poll::Ready(Err(_)) => return Err(None),
                    Poll::Ready(Ok(())) if *waited => self.writing = Writing::Idle,
                    Poll::Ready(Ok(())) => {
                        self.writing = Writing::Idle;
                        self.times.behind = None;
                    }
                    Poll::Pending => {
                        *waited = true;
                        self.times.behind.get_or_insert_with(Instant::now);
                        return Ok(());
                    }
                }
            } else if self.wake.poll(context).is_pending() {
                return Ok(());
            }
            self.fill()?;
        }
        // The client is to be heard too.
        context.waker().wake_by_ref();
        Ok(())
    }

    fn handle(&mut self, happened: Happened) -> Result<(), End> {
        match happened {
            Happened::Inbound(message) => self.inbound(message),
            Happened::Job(done) => self.done(done),
            Happened::Older(index, page) => self.older(index, page),
            Happened::Ended(end) => Err(end),
            Happened::Time => self.time(),
            Happened::Told => self.told(),
        }
    }

    fn told(&mut self) -> Result<(), End> {
        if let Some(caller) = self.caller.as_ref().map(|admitted| admitted.caller) {
            match self.state.users.standing(&caller) {
                Standing::Good => {}
                Standing::Ended => return Err(Some(Close::Unauthorized)),
                Standing::Suspended => return Err(Some(Close::Banned)),
            }
            if !self.state.gateway.draining().is_cancelled() {
                // Suspended for a moment only.
                self.watch(caller);
                return Ok(());
            }
        }
        // Not all at the same moment: they come back somewhere else.
        let after = GOING_AWAY_OVER.mul_f64(rand::random());
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(0);
        self.outbox.push_back(ServerFrame::GoingAway { after_ms }.encode());
        self.times.leave = Some(Instant::now() + after);
        Ok(())
    }

    /// Watches `caller`, who is in, from now on.
    fn watch(&mut self, caller: Caller) {
        let watch = self.state.users.watch(&caller, self.state.gateway.draining());
        self.told = Box::pin(watch.told().clone().cancelled_owned());
        self.times.token = Some(self.expiry(&caller));
        if let Some(admitted) = &mut self.caller {
            (admitted.caller, admitted.watch) = (caller, watch);
        }
    }

    fn done(&mut self, done: Done) -> Result<(), End> {
        match done {
            Done::Answer(frame) => self.outbox.push_back(frame),
            Done::Close(close) => return Err(Some(close)),
            Done::Admitted { id, caller, place } => {
                let watch = self.state.users.watch(&caller, self.state.gateway.draining());
                self.told = Box::pin(watch.told().clone().cancelled_owned());
                self.times.token = Some(self.expiry(&caller));
                self.caller = Some(Admitted { caller, watch, _place: place });
                if let Some(id) = id {
                    self.welcome(&id);
                }
            }
            Done::Attached { id, attached } => self.attached(id, *attached),
        }
        Ok(())
    }
}

/// Sends the answers that are there, then that of the command under way.
async fn part(
    socket: &mut WebSocket,
    outbox: VecDeque<String>,
    job: Option<Job>,
) -> Result<(), axum::Error> {
    for frame in outbox {
        socket.feed(Message::Text(frame.into())).await?;
    }
    socket.flush().await?;
    if let Some(job) = job
        && let Done::Answer(frame) = job.await
    {
        socket.send(Message::Text(frame.into())).await?;
    }
    Ok(())
}
