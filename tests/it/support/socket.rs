//! A client of the socket that trusts nothing: frames are kept as the text they came as, and every answer is checked to
//! be the only one to its question.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use uuid::Uuid;

use super::app::{App, Reader};

/// Longest that a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a socket is opened.
#[derive(Clone, Copy)]
pub struct Opening<'a> {
    pub protocol: Option<&'a str>,
    /// The token for the Authorization header.
    pub token: Option<&'a str>,
    /// A small one makes a reader that stalls costly at once.
    pub receive_buffer: Option<u32>,
}

impl Default for Opening<'_> {
    fn default() -> Self {
        Self { protocol: Some("whatif.v1"), token: None, receive_buffer: None }
    }
}

pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    asked: u64,
    open: HashSet<String>,
    /// Events and snapshots that came while an answer was waited for.
    events: VecDeque<String>,
    /// `going_away` and what else belongs to no question.
    pub notices: Vec<Value>,
}

/// What came out of the socket.
#[derive(Debug)]
pub enum Came {
    Frame(String),
    /// With the code, if there was one.
    Closed(Option<u16>),
}

impl Socket {
    pub async fn open(app: &App, opening: Opening<'_>) -> Self {
        let address: SocketAddr = app.base.trim_start_matches("http://").parse().unwrap();
        let tcp = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = opening.receive_buffer {
            tcp.set_recv_buffer_size(bytes).unwrap();
        }
        let tcp = tcp.connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut request = format!("ws://{address}/api/v1/ws").into_client_request().unwrap();
        let headers = request.headers_mut();
        if let Some(protocol) = opening.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).unwrap());
        }
        if let Some(token) = opening.token {
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        // Client libraries refuse an upgrade that does not take one of their protocols up; a browser sees a close.
        let (stream, protocol) = match tokio_tungstenite::client_async(request, tcp).await {
            Ok((stream, response)) => {
                let taken = response.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned();
                (stream, taken)
            }
            Err(error) => panic!("the upgrade was refused: {error}"),
        };
        if opening.protocol == Some("whatif.v1") {
            assert_eq!(protocol.unwrap(), "whatif.v1");
        }
        Self {
            stream,
            asked: 0,
            open: HashSet::new(),
            events: VecDeque::new(),
            notices: Vec::new(),
        }
    }

    /// Opens a socket and is welcomed.
    pub async fn hello(app: &App, reader: &Reader) -> Self {
        Self::hello_with(app, reader, Opening::default()).await
    }

    pub async fn hello_with(app: &App, reader: &Reader, opening: Opening<'_>) -> Self {
        let mut socket = Self::open(app, opening).await;
        let welcome = socket.ask(json!({ "type": "hello", "token": reader.token })).await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        socket
    }

    pub async fn send(&mut self, message: Message) {
        self.stream.send(message).await.unwrap();
    }

    /// Sends without caring whether the server still reads.
    pub async fn try_send(&mut self, message: Message) -> bool {
        self.stream.send(message).await.is_ok()
    }

    /// Sends a question under a new id, without waiting for its answer.
    pub async fn put(&mut self, mut question: Value) -> String {
        self.asked += 1;
        let id = format!("q{}", self.asked);
        question["id"] = id.as_str().into();
        self.open.insert(id.clone());
        self.send(Message::Text(question.to_string().into())).await;
        id
    }

    /// Asks and waits for the answer; what else comes meanwhile is kept.
    pub async fn ask(&mut self, question: Value) -> Value {
        let id = self.put(question).await;
        let answer = self.answer().await;
        assert_eq!(answer["id"], id.as_str(), "{answer}");
        answer
    }

    /// The next answer to anything that was asked.
    pub async fn answer(&mut self) -> Value {
        loop {
            match self.came().await {
                Came::Frame(text) => {
                    if let Some(answer) = self.sort(text) {
                        return answer;
                    }
                }
                Came::Closed(code) => panic!("closed with {code:?} instead of an answer"),
            }
        }
    }

    /// Keeps events; returns an answer.
    fn sort(&mut self, text: String) -> Option<Value> {
        let frame: Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str().unwrap() {
            "welcome" | "ack" | "error" | "pong" => {
                let id = frame["id"].as_str().unwrap();
                assert!(self.open.remove(id), "answered twice or never asked: {frame}");
                Some(frame)
            }
            "going_away" | "gap" => {
                self.notices.push(frame);
                None
            }
            _ => {
                self.events.push_back(text);
                None
            }
        }
    }

    /// Attaches; returns the `ack`'s result.
    pub async fn attach(&mut self, scenario: &str, from: Option<(&str, u64)>) -> Value {
        let mut question = json!({ "type": "attach", "scenario": scenario });
        if let Some((epoch, after)) = from {
            question["epoch"] = epoch.into();
            question["after"] = after.into();
        }
        let answer = self.ask(question).await;
        assert_eq!(answer["type"], "ack", "{answer}");
        answer["result"].clone()
    }

    /// A command with a key of its own; returns the answer.
    pub async fn command(&mut self, mut command: Value) -> Value {
        if command["idem"].is_null() {
            command["idem"] = Uuid::new_v4().to_string().into();
        }
        self.ask(command).await
    }

    /// A command that is accepted; returns its turn.
    pub async fn turn(&mut self, command: Value) -> String {
        let answer = self.command(command).await;
        assert_eq!(answer["type"], "ack", "{answer}");
        answer["result"]["turn"].as_str().unwrap().to_owned()
    }

    /// A command that is refused; returns the error's code.
    pub async fn refused(&mut self, command: Value) -> String {
        let answer = self.command(command).await;
        assert_eq!(answer["type"], "error", "{answer}");
        assert!(!answer["message"].as_str().unwrap().is_empty());
        answer["error"].as_str().unwrap().to_owned()
    }

    /// The next event or snapshot, as it came.
    pub async fn event(&mut self) -> String {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match self.came().await {
                Came::Frame(text) => {
                    if let Some(answer) = self.sort(text) {
                        panic!("an answer that nobody waits for: {answer}");
                    }
                }
                Came::Closed(code) => panic!("closed with {code:?} instead of an event"),
            }
        }
    }

    /// The next `count` events.
    pub async fn take(&mut self, count: usize) -> Vec<String> {
        let mut events = Vec::with_capacity(count);
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }

    /// The events up to the end of a turn, that included.
    pub async fn until_turn_over(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let over = ["turn.done", "turn.failed"].contains(&kind(&event).as_str());
            events.push(event);
            if over {
                return events;
            }
        }
    }

    /// What has come so far and was not taken.
    pub fn kept(&mut self) -> Vec<String> {
        self.events.drain(..).collect()
    }

    /// Reads on until the server closes; returns the code.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.came().await {
                Came::Frame(text) => drop(self.sort(text)),
                Came::Closed(code) => return code,
            }
        }
    }

    /// Whatever comes next.
    pub async fn came(&mut self) -> Came {
        loop {
            let next = timeout(PATIENCE, self.stream.next()).await;
            match next.expect("the server says something in time") {
                Some(Ok(Message::Text(text))) => return Came::Frame(text.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    // Answered, as the protocol asks.
                    let _ = self.stream.flush().await;
                    return Came::Closed(frame.map(|CloseFrame { code, .. }| code.into()));
                }
                Some(Ok(Message::Binary(_))) => panic!("the server sends text only"),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Came::Closed(None),
            }
        }
    }

    /// Sends the same again and again, until the server closes; returns the code.
    pub async fn flood(self, message: Message) -> Option<u16> {
        let (mut sink, mut stream) = self.stream.split();
        let send = async {
            while sink.send(message.clone()).await.is_ok() {}
            std::future::pending::<()>().await;
        };
        let read = async {
            loop {
                match stream.next().await {
                    Some(Ok(Message::Close(frame))) => break frame.map(|frame| frame.code.into()),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break None,
                }
            }
        };
        tokio::select! {
            code = timeout(PATIENCE, read) => code.expect("the server closes in time"),
            () = send => None,
        }
    }

    /// Asks without reading until the server does not listen any more, then reads. Every question must be answered, in
    /// order; returns how many there were.
    pub async fn ask_without_reading(self) -> usize {
        let (mut sink, mut stream) = self.stream.split();
        let mut asked = 0_usize;
        loop {
            let ping = json!({ "type": "ping", "id": format!("{asked:0>120}") }).to_string();
            asked += 1;
            match timeout(Duration::from_secs(2), sink.send(Message::Text(ping.into()))).await {
                Ok(sent) => sent.expect("the server lets a client be that waits for its answers"),
                Err(_) => break,
            }
        }
        let read = async {
            for number in 0..asked {
                let next = timeout(PATIENCE, stream.next()).await.expect("answers in time");
                let pong = next.expect("an open socket").unwrap().into_text().unwrap();
                let pong: Value = serde_json::from_str(&pong).unwrap();
                assert_eq!(pong["id"], format!("{number:0>120}"), "{pong}");
            }
        };
        let (flushed, ()) = tokio::join!(sink.flush(), read);
        flushed.unwrap();
        asked
    }

    /// Leaves without a word.
    pub fn vanish(self) {}

    /// The connection itself, for clients that no library would make. What was read ahead is lost.
    pub fn into_raw(self) -> TcpStream {
        self.stream.into_inner()
    }
}

/// A frame's `type`.
pub fn kind(frame: &str) -> String {
    let frame: Value = serde_json::from_str(frame).unwrap();
    frame["type"].as_str().unwrap().to_owned()
}

/// A frame's `seq`.
pub fn seq(frame: &str) -> u64 {
    let frame: Value = serde_json::from_str(frame).unwrap();
    frame["seq"].as_u64().unwrap()
}

/// Upgrades by hand with that subprotocol; returns the code of the close that follows.
pub async fn upgrade_raw(app: &App, protocol: &str) -> Option<u16> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = app.base.trim_start_matches("http://");
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/ws HTTP/1.1\r\nhost: {address}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: {protocol}\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, tcp.read_u8()).await.unwrap().unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let (opcode, payload) = read_frame(&mut tcp).await;
    (opcode == 8).then(|| u16::from_be_bytes([payload[0], payload[1]]))
}

/// Opcode and payload of a server's short frame.
pub async fn read_frame(tcp: &mut TcpStream) -> (u8, Vec<u8>) {
    use tokio::io::AsyncReadExt;
    let mut head = [0; 2];
    timeout(PATIENCE, tcp.read_exact(&mut head)).await.expect("a frame in time").unwrap();
    assert!(head[1] < 126, "a short frame, unmasked");
    let mut payload = vec![0; usize::from(head[1])];
    tcp.read_exact(&mut payload).await.unwrap();
    (head[0] & 0x0f, payload)
}
