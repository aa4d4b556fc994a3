//! The mock model server: an OpenAI-compatible endpoint that streams numbered words at a set pace.
//!
//! Runs as a process of its own on one thread. Its frames are computed once and shared by all streams, because it lives
//! on the same few cores as what is measured. It knows nothing of relays.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use axum::{Json, Router};
use bytes::Bytes;
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{clock, scene};

/// A token sent this long after it was due counts as late.
const LATE: Duration = Duration::from_millis(5);
/// The choices and the state arrive in pieces of about a token, as a model sends them.
const TRAILER_PIECE: usize = 6;
const HEAD: &str = r#"data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","system_fingerprint":"fp_bench","choices":"#;

/// How scenes begun from now on are written.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Shape {
    /// Tokens a second in one stream; 0 writes as fast as the reader reads.
    pub pace: u32,
    /// Words of prose.
    pub tokens: u32,
}

/// Counted since the last change of shape.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Totals {
    pub streams: u64,
    pub tokens: u64,
    /// Tokens sent more than 5 ms after they were due: this process lacked CPU, or its reader did not read.
    pub late: u64,
}

struct Table {
    prose: Vec<Bytes>,
    tail: Vec<Bytes>,
}

struct Upstream {
    shape: Mutex<(Shape, Arc<Table>)>,
    streams: AtomicU64,
    tokens: AtomicU64,
    late: AtomicU64,
}

pub async fn serve() -> anyhow::Result<()> {
    let shape = Shape { pace: 50, tokens: 100 };
    let upstream = Arc::new(Upstream {
        shape: Mutex::new((shape, Arc::new(Table::new(shape.tokens)))),
        streams: AtomicU64::new(0),
        tokens: AtomicU64::new(0),
        late: AtomicU64::new(0),
    });
    let routes = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(models))
        .route("/shape", post(reshape))
        .route("/totals", get(totals))
        .with_state(upstream);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    // Tokens are small and timed: waiting for more to send would put the kernel's clock into the figures.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, routes).await?)
}

#[derive(Deserialize)]
struct Completion {
    #[serde(default)]
    stream: bool,
}

async fn complete(
    State(upstream): State<Arc<Upstream>>,
    Json(request): Json<Completion>,
) -> Response {
    if !request.stream {
        let message =
            json!({ "role": "assistant", "content": format!("Nothing more.{}", scene::TRAILER) });
        return Json(json!({
            "id": "chatcmpl-bench", "object": "chat.completion", "created": 1_700_000_000, "model": "bench",
            "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140 },
        }))
        .into_response();
    }
    upstream.streams.fetch_add(1, Relaxed);
    let (shape, table) = upstream.shape.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let start = Instant::now();
    let interval =
        if shape.pace == 0 { Duration::ZERO } else { Duration::from_secs(1) / shape.pace };
    let body =
        Scene { upstream, table, next: 0, interval, start, timer: Box::pin(sleep_until(start)) };
    (
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")],
        Body::new(body),
    )
        .into_response()
}

async fn models() -> Json<serde_json::Value> {
    Json(
        json!({ "object": "list", "data": [{ "id": "bench", "object": "model", "created": 1_700_000_000, "owned_by": "bench" }] }),
    )
}

async fn reshape(State(upstream): State<Arc<Upstream>>, Query(shape): Query<Shape>) -> StatusCode {
    if shape.tokens == 0 || shape.tokens > scene::MAX_TOKENS {
        return StatusCode::BAD_REQUEST;
    }
    *upstream.shape.lock().unwrap_or_else(PoisonError::into_inner) =
        (shape, Arc::new(Table::new(shape.tokens)));
    for count in [&upstream.streams, &upstream.tokens, &upstream.late] {
        count.store(0, Relaxed);
    }
    StatusCode::NO_CONTENT
}

async fn totals(State(upstream): State<Arc<Upstream>>) -> Json<Totals> {
    let Upstream { streams, tokens, late, .. } = &*upstream;
    Json(Totals {
        streams: streams.load(Relaxed),
        tokens: tokens.load(Relaxed),
        late: late.load(Relaxed),
    })
}

fn chunk(content: &str) -> String {
    let content = serde_json::Value::from(content);
    format!(
        "{HEAD}[{{\"index\":0,\"delta\":{{\"content\":{content}}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n"
    )
}

impl Table {
    fn new(tokens: u32) -> Self {
        let prose = (0..tokens).map(|index| {
            if scene::is_stamp(index) {
                return Bytes::new();
            }
            let word = scene::word(index);
            chunk(&format!(" {}", String::from_utf8_lossy(&word))).into()
        });
        let pieces = scene::TRAILER.as_bytes().chunks(TRAILER_PIECE);
        let mut tail: Vec<Bytes> =
            pieces.map(|piece| chunk(&String::from_utf8_lossy(piece)).into()).collect();
        let usage = json!({ "prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens });
        tail.push(Bytes::from(format!(
            "{HEAD}[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":\"stop\"}}]}}\n\n{HEAD}[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n"
        )));
        Self { prose: prose.collect(), tail }
    }

    fn frame(&self, index: usize) -> Option<Bytes> {
        match self.prose.get(index) {
            Some(frame) if !frame.is_empty() => Some(frame.clone()),
            Some(_) => {
                let mut word = String::from(" ");
                scene::write_stamp(&mut word, clock::micros());
                Some(chunk(&word).into())
            }
            None => self.tail.get(index - self.prose.len()).cloned(),
        }
    }
}

/// One answer being written: each frame as soon as it is due, none skipped.
struct Scene {
    upstream: Arc<Upstream>,
    table: Arc<Table>,
    next: usize,
    interval: Duration,
    start: Instant,
    timer: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Scene {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let scene = self.get_mut();
        if !scene.interval.is_zero() {
            let steps = u32::try_from(scene.next).unwrap_or(u32::MAX);
            let due = scene.start + scene.interval * steps;
            let now = Instant::now();
            if due > now {
                if scene.timer.deadline() != due {
                    scene.timer.as_mut().reset(due);
                }
                ready!(scene.timer.as_mut().poll(context));
            }
            if now > due + LATE && scene.next < scene.table.prose.len() {
                scene.upstream.late.fetch_add(1, Relaxed);
            }
        }
        let frame = scene.table.frame(scene.next);
        if scene.next < scene.table.prose.len() {
            scene.upstream.tokens.fetch_add(1, Relaxed);
        }
        scene.next += 1;
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }
}
