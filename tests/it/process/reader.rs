//! A client that remembers what it has applied and holds the server to the contract: every number once, nothing
//! changed, and at the end the very text that was stored.

use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::Server;

enum Wire {
    Sse,
    Socket,
}

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

enum Stream {
    Sse(reqwest::Response, String),
    Socket(Box<Socket>),
}

/// A socket that has said nothing yet.
pub async fn open(server: &Server, headers: &[(&'static str, &str)]) -> Socket {
    let mut request = server.url("/ws").replace("http", "ws").into_client_request().unwrap();
    for (name, value) in [("sec-websocket-protocol", "whatif.v1")].iter().chain(headers) {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await.unwrap().0
}

pub struct Reader {
    wire: Wire,
    token: String,
    pub scenario: String,
    epoch: String,
    pub seq: u64,
    /// Of the scene being told.
    pub text: String,
    pub done: Vec<Value>,
    stream: Option<Stream>,
}

impl Reader {
    pub fn sse(token: &str, scenario: &str) -> Self {
        Self::new(Wire::Sse, token, scenario)
    }

    pub fn socket(token: &str, scenario: &str) -> Self {
        Self::new(Wire::Socket, token, scenario)
    }

    fn new(wire: Wire, token: &str, scenario: &str) -> Self {
        let (token, scenario) = (token.into(), scenario.into());
        let (epoch, text) = (String::new(), String::new());
        Self { wire, token, scenario, epoch, seq: 0, text, done: Vec::new(), stream: None }
    }

    /// Attaches at the place where it stands.
    async fn attach(&mut self, server: &Server) {
        self.stream = Some(match self.wire {
            Wire::Sse => {
                let path = format!("/scenarios/{}/events", self.scenario);
                let mut request = server.request(Method::GET, &path).bearer_auth(&self.token);
                if self.seq > 0 {
                    request =
                        request.header("Last-Event-ID", format!("{}:{}", self.epoch, self.seq));
                }
                let response = request.send().await.unwrap();
                assert_eq!(response.status(), 200);
                Stream::Sse(response, String::new())
            }
            Wire::Socket => {
                let mut socket = open(server, &[]).await;
                let hello = json!({ "type": "hello", "id": "h", "token": self.token });
                let attach = json!({ "type": "attach", "id": "a", "scenario": self.scenario,
                    "epoch": self.epoch, "after": self.seq });
                for frame in [hello, attach] {
                    socket.send(Message::text(frame.to_string())).await.unwrap();
                }
                Stream::Socket(Box::new(socket))
            }
        });
    }

    /// The code that a new socket is closed with.
    pub async fn closed_with(&self, server: &Server) -> u16 {
        let mut socket = open(server, &[]).await;
        let hello = json!({ "type": "hello", "id": "h", "token": self.token });
        // It may be closed already.
        let _ = socket.send(Message::text(hello.to_string())).await;
        loop {
            if let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() {
                return close.code.into();
            }
        }
    }

    /// The next frame; `None` when the connection is over.
    async fn frame(&mut self) -> Option<Value> {
        match self.stream.as_mut()? {
            Stream::Sse(response, held) => loop {
                if let Some((event, rest)) = held.split_once("\n\n") {
                    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                    let id = event.lines().find_map(|line| line.strip_prefix("id: "));
                    let frame = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
                    if let (Some(frame), Some(id)) = (&frame, id) {
                        let epoch = frame["epoch"].as_str().unwrap();
                        assert_eq!(id, format!("{epoch}:{}", frame["seq"]));
                    }
                    *held = rest.to_owned();
                    if frame.is_some() {
                        return frame;
                    }
                    continue;
                }
                let chunk = response.chunk().await.ok().flatten()?;
                held.push_str(std::str::from_utf8(&chunk).unwrap());
            },
            Stream::Socket(socket) => loop {
                match socket.next().await?.ok()? {
                    Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                    Message::Close(_) => return None,
                    _ => {}
                }
            },
        }
    }

    /// Applies a frame; says whether it was one of the log's.
    fn apply(&mut self, frame: &Value) -> bool {
        match frame["type"].as_str().unwrap() {
            "welcome" | "going_away" | "pong" => return false,
            "ack" => {
                assert_eq!(frame["result"]["recovered"], true, "{frame}");
                return false;
            }
            "snapshot" | "gap" | "error" => panic!("the log was held, and yet: {frame}"),
            _ => {}
        }
        let epoch = frame["epoch"].as_str().unwrap();
        assert!(self.epoch.is_empty() || self.epoch == epoch, "{frame}");
        self.epoch = epoch.to_owned();
        let (to, turn) = (frame["seq"].as_u64().unwrap(), &frame["turn"]);
        let from = frame["seq_from"].as_u64().unwrap_or(to);
        assert_eq!(from, self.seq + 1, "a hole or a repeat: {frame}");
        self.seq = to;
        match frame["type"].as_str().unwrap() {
            "turn.started" => self.text.clear(),
            "text.delta" => {
                let off = self.text.encode_utf16().count() as u64;
                assert_eq!(frame["off"], off, "{frame}");
                self.text.push_str(frame["text"].as_str().unwrap());
            }
            "turn.done" => {
                let mut done = frame.clone();
                done["text"] = json!(self.text);
                self.done.push(done);
            }
            "turn.failed" => panic!("turn {turn} failed: {frame}"),
            _ => {}
        }
        true
    }

    /// Reads `count` more events, fewer if the turn ends before.
    pub async fn read(&mut self, server: &Server, count: usize) {
        if self.stream.is_none() {
            self.attach(server).await;
        }
        let (mut read, turns) = (0, self.done.len());
        while read < count && self.done.len() == turns {
            let frame = self.frame().await.expect("the connection stays");
            read += usize::from(self.apply(&frame));
        }
    }

    /// Reads what still arrives until the connection ends.
    pub async fn read_to_end(&mut self) {
        while let Some(frame) = self.frame().await {
            self.apply(&frame);
        }
        self.stream = None;
    }

    /// Reads until one more turn is done.
    pub async fn read_turn(&mut self, server: &Server) {
        self.read(server, usize::MAX).await;
    }

    /// That the scene last read is the one that is stored, and its hash that of its text.
    pub async fn matches_store(&self, server: &Server) -> Value {
        let done = self.done.last().expect("a turn that is done");
        let path = format!("/scenarios/{}/tree", self.scenario);
        let (_, tree) =
            server.ask(server.request(Method::GET, &path).bearer_auth(&self.token)).await;
        let scenes = tree["items"].as_array().unwrap();
        assert_eq!(scenes.len(), self.done.len(), "a scene for every turn");
        let scene = scenes.iter().find(|scene| scene["id"] == done["scene"]).expect("the scene");
        let text = done["text"].as_str().unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(scene["text"], text);
        assert_eq!((&scene["hash"], &done["hash"]), (&json!(hash), &json!(hash)));
        assert_eq!(done["finish"], "complete");
        scene.clone()
    }
}
