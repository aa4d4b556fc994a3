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
use futures::{FutureExt, Sink, StreamExt};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

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

/// Longest that a closed socket is waited for.
const LINGER: Duration = Duration::from_secs(5);

pub struct Connection {
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
    Flushed(Result<(), axum::Error>),
    News,
    Time,
    Told,
}

/// The loop ends; a code if it is to be told to the client.
type End = Option<Close>;

impl Connection {
    pub fn new(socket: WebSocket, state: AppState) -> Self {
        let now = Instant::now();
        let told = Box::pin(state.gateway.draining().clone().cancelled_owned());
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
            told,
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
