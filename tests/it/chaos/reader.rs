//! A client that goes on whatever happens to its connection, by the rules of `docs/PROTOCOL.md` and no others, and that
//! fails on anything they do not allow.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use crate::support::story::Story;

/// Silence after which a connection is dead: the server pings every 25 s.
const SILENCE: Duration = Duration::from_secs(35);
const CONNECT: Duration = Duration::from_secs(5);

/// What a client needs to find its scenario.
#[derive(Clone)]
pub struct Address {
    pub base: String,
    pub token: String,
    pub scenario: String,
}

/// Where a reader is.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub epoch: String,
    pub seq: u64,
    /// The turn told last, and whether it is over.
    pub turn: Option<(String, bool)>,
    pub turns: usize,
    pub connections: usize,
    pub snapshots: usize,
    /// Of the newest event.
    pub heard: Option<Instant>,
}

/// What a reader was told.
#[derive(Default)]
pub struct Told {
    pub story: Story,
    /// From logs that were lost since.
    pub past: Vec<Story>,
}

pub struct Reader {
    at: Address,
    /// Told when the reader may stop; it stops nowhere else.
    end: CancellationToken,
    standing: watch::Sender<Standing>,
    told: Told,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Reader {
    /// Starts to read from the log's start. Ends with what was told, or in a panic that says what was wrong.
    pub fn start(
        at: Address,
        end: CancellationToken,
    ) -> (watch::Receiver<Standing>, tokio::task::JoinHandle<Told>) {
        let (standing, seen) = watch::channel(Standing::default());
        let reader = Self { at, end, standing, told: Told::default() };
        (seen, tokio::spawn(reader.run()))
    }

    async fn run(mut self) -> Told {
        let end = self.end.clone();
        loop {
            tokio::select! {
                biased;
                () = end.cancelled() => return self.told,
                () = self.connection() => {}
            }
            // A crowd that comes back is spread out.
            sleep(Duration::from_millis(rand::random_range(50..500))).await;
        }
    }

    /// One connection, from its upgrade to its end. Cancelled anywhere it leaves whole frames applied.
    async fn connection(&mut self) {
        let Some(mut socket) = self.open().await else { return };
        self.standing.send_modify(|standing| standing.connections += 1);
        let (mut attached, mut gap) = (false, None);
        while let Ok(Some(Ok(message))) = timeout(SILENCE, socket.next()).await {
            match message {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    match frame["type"].as_str().unwrap() {
                        "welcome" | "going_away" => {}
                        "gap" => gap = Some(text.to_string()),
                        "ack" => {
                            assert!(!attached, "answered twice: {frame}");
                            attached = true;
                            self.acknowledged(&frame["result"]);
                        }
                        "error" => {
                            let passing = frame["retryable"] == true;
                            assert!(passing, "refused for good: {frame}");
                            return;
                        }
                        _ => self.apply(&text, &frame, gap.take()),
                    }
                }
                Message::Close(close) => {
                    let code = close.map_or(0, |close| u16::from(close.code));
                    assert!(code < 4500, "closed for good: {code}");
                    let _ = socket.flush().await;
                    return;
                }
                _ => {}
            }
        }
    }

    async fn open(&self) -> Option<Socket> {
        let url = format!("{}/ws", self.at.base.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "whatif.v1".parse().unwrap());
        let (mut socket, _) = timeout(CONNECT, connect_async(request)).await.ok()?.ok()?;
        let (epoch, after) = (&self.told.story.epoch, self.told.story.last);
        let hello = json!({ "type": "hello", "id": "hello", "token": self.at.token });
        let mut attach = json!({ "type": "attach", "id": "attach", "scenario": self.at.scenario });
        if !epoch.is_empty() {
            attach["epoch"] = json!(epoch);
            attach["after"] = json!(after);
        }
        for frame in [hello, attach] {
            socket.send(Message::text(frame.to_string())).await.ok()?;
        }
        Some(socket)
    }

    fn acknowledged(&self, result: &Value) {
        let story = &self.told.story;
        if result["recovered"] == true {
            let same = story.epoch.is_empty() || result["epoch"] == story.epoch;
            assert!(same, "recovered in another epoch than {}: {result}", story.epoch);
        } else {
            let lost = result["epoch"] != story.epoch.as_str();
            assert!(lost, "a held log was not replayed after {}: {result}", story.last);
        }
    }

    /// Applies an event or a snapshot. [`Story`] fails on holes, repetitions and contradictions.
    fn apply(&mut self, text: &str, frame: &Value, gap: Option<String>) {
        if frame["type"] == "snapshot" {
            let old = std::mem::take(&mut self.told.story);
            let lost = old.epoch.is_empty() || frame["epoch"] != old.epoch.as_str();
            let held = old.last;
            assert!(
                lost,
                "a snapshot at {} after {held} of a held log; gap: {gap:?}",
                frame["seq"]
            );
            self.told.past.push(old);
        }
        self.told.story.apply(text);
        let story = &self.told.story;
        self.standing.send_modify(|standing| {
            standing.epoch.clone_from(&story.epoch);
            standing.seq = story.last;
            standing.turn = story.turns.last().map(|turn| (turn.turn.clone(), turn.end.is_some()));
            standing.turns = story.turns.iter().filter(|turn| turn.end.is_some()).count();
            standing.snapshots = self.told.past.len();
            standing.heard = Some(Instant::now());
        });
    }
}
