//! The baseline: what a relay costs that does nothing but relay.
//!
//! One axum server with default settings: a socket asks the upstream through reqwest, and each `data:` payload of
//! the answer becomes one text message, unparsed. No sessions, no log, no accounts, nothing is resumable.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use bytes::{Buf, Bytes, BytesMut};
use serde_json::json;
use tokio::net::TcpListener;

const REQUEST: &str = r#"{"model":"bench","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"What if Rome never fell?"}]}"#;

struct Bare {
    client: reqwest::Client,
    url: String,
}

/// `nodelay` departs from axum's default, which leaves Nagle's algorithm on.
pub async fn serve(upstream: u16, nodelay: bool) -> anyhow::Result<()> {
    let url = format!("http://127.0.0.1:{upstream}/v1/chat/completions");
    let routes = Router::new()
        .route("/ws", any(on_connect))
        .route("/turn", any(on_message))
        .route("/idle", any(idle))
        .with_state(Arc::new(Bare { client: reqwest::Client::new(), url }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "port": listener.local_addr()?.port() }));
    if nodelay {
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        return Ok(axum::serve(listener, routes).await?);
    }
    Ok(axum::serve(listener, routes).await?)
}

/// One scene as soon as the socket is open.
async fn on_connect(State(bare): State<Arc<Bare>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        if let Err(error) = relay(&bare, &mut socket).await {
            eprintln!("bare: {error:#}");
        }
    })
}

/// One scene for each message of the client: lets sockets be opened before the clock starts.
async fn on_message(State(bare): State<Arc<Bare>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if !matches!(message, Message::Text(_)) {
                continue;
            }
            if let Err(error) = relay(&bare, &mut socket).await {
                eprintln!("bare: {error:#}");
                return;
            }
        }
    })
}

async fn idle(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| while let Some(Ok(_)) = socket.recv().await {})
}

async fn relay(bare: &Bare, socket: &mut WebSocket) -> anyhow::Result<()> {
    let request =
        bare.client.post(&bare.url).header("content-type", "application/json").body(REQUEST);
    let mut response = request.send().await?.error_for_status()?;
    let mut unread = BytesMut::new();
    while let Some(part) = response.chunk().await? {
        unread.extend_from_slice(&part);
        while let Some(end) = unread.iter().position(|&byte| byte == b'\n') {
            let line = unread.split_to(end).freeze();
            unread.advance(1);
            if let Some(payload) = payload(&line) {
                socket.send(Message::Text(Utf8Bytes::try_from(payload)?)).await?;
            }
        }
    }
    Ok(())
}

fn payload(line: &Bytes) -> Option<Bytes> {
    line.starts_with(b"data: ").then(|| line.slice(b"data: ".len()..))
}
