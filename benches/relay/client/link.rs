//! One client WebSocket: how it is opened, written and read.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Sockets of one source address; well under the kernel's ephemeral ports of one.
const PER_ADDRESS: usize = 4_000;
/// Small, for thousands of sockets live in this process.
const READ_BUFFER: usize = 4 * 1024;
/// Longest silence of a server that owes something.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Link {
    ws: WebSocketStream<TcpStream>,
}

pub struct Open<'a> {
    pub port: u16,
    pub path: &'a str,
    pub subprotocol: Option<&'static str>,
    /// The socket's number; spreads many sockets over source addresses.
    pub index: usize,
    /// The kernel's receive buffer; small for a reader that shall be felt early.
    pub receive_buffer: Option<u32>,
}

impl Link {
    pub async fn open(open: Open<'_>) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if let Some(size) = open.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        let host = u8::try_from(1 + open.index / PER_ADDRESS).context("too many sockets")?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))?;
        let stream = socket
            .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, open.port)))
            .await
            .context("connect")?;
        stream.set_nodelay(true)?;
        let mut request =
            format!("ws://127.0.0.1:{}{}", open.port, open.path).into_client_request()?;
        if let Some(name) = open.subprotocol {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(name));
        }
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER);
        let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        let (ws, _) = timeout(PATIENCE, shaken).await.context("handshake")?.context("handshake")?;
        Ok(Self { ws })
    }

    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> anyhow::Result<()> {
        Ok(self.ws.send(Message::Text(text.into())).await?)
    }

    /// The next text message; pings are answered on the way.
    ///
    /// # Errors
    /// When the connection ends, or nothing comes for a minute.
    pub async fn receive(&mut self) -> anyhow::Result<Utf8Bytes> {
        timeout(PATIENCE, self.wait()).await.context("the server fell silent")?
    }

    /// The next text message, however long it takes.
    pub async fn wait(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            match self.ws.next().await.context("the connection ended")?? {
                Message::Text(text) => return Ok(text),
                Message::Close(Some(frame)) => {
                    bail!("closed by the server: {} {}", u16::from(frame.code), frame.reason)
                }
                Message::Close(None) => bail!("closed by the server"),
                Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => {}
            }
        }
    }

    pub async fn close(mut self) {
        // Whatever goes wrong while leaving, the socket is gone.
        drop(self.ws.close(None).await);
        drop(
            timeout(Duration::from_secs(2), async {
                while self.ws.next().await.is_some_and(|frame| frame.is_ok()) {}
            })
            .await,
        );
    }
}
