//! A small scripted server that speaks PROTOCOL.md and can break off anywhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;

pub const SCENARIO: &str = "0190b5a0-0000-7000-8000-000000000001";

/// When and how the server breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fault {
    #[default]
    None,
    /// The first time that this event was sent, the connection ends: by a close code, or without a word.
    CutAfter(u64, Option<u16>),
    /// Every connection ends after one event.
    CutEverywhere,
    /// Once this event was sent, the log is lost: another epoch, and a snapshot instead of a replay.
    LoseLogAfter(u64),
    /// This event is left out the first time.
    Skip(u64),
    /// The connection ends when the first command arrives: before it is taken, or after.
    CutAtCommand { taken: bool },
    /// Nothing is written beyond this event until a `stop` comes.
    HoldAfter(u64),
    /// The first turn fails without a word.
    FailFirstTurn,
    /// The first access token is not good (any longer) on the socket.
    RefuseFirstToken,
    /// As before, and the refresh token is not good either.
    ForgetLogins,
    /// As before, and nobody knows the account.
    ForgetGuests,
}

#[derive(Default)]
pub struct World {
    pub log: Vec<Value>,
    pub epoch: u64,
    pub scenes: Vec<Value>,
    pub fault: Fault,
    pub fault_done: bool,
    /// `idem` of every command taken, in order.
    pub idems: Vec<String>,
    pub answers: HashMap<String, String>,
    pub commands: Vec<Value>,
    pub creations: Vec<String>,
    pub registrations: usize,
    pub tokens: usize,
    pub connections: usize,
}

#[derive(Clone)]
pub struct Server {
    pub world: Arc<Mutex<World>>,
    pub grown: watch::Sender<()>,
}

impl Server {
    /// Appends the events of a turn that writes scene `n`.
    fn write_turn(&self, via: Value, text: &str, choices: usize) -> String {
        let mut world = self.world.lock().unwrap();
        let number = world.scenes.len() + 1;
        let (turn, scene) = (format!("turn-{number}"), format!("n{number}"));
        let parent = world.scenes.last().map(|scene| scene["id"].clone());
        let mut events = vec![json!({ "type": "turn.started", "turn": turn, "scene": scene,
            "parent": parent, "via": via, "provider": "script", "model": "s" })];
        let mut off = 0;
        for piece in text.split_inclusive(' ') {
            events.push(json!({ "type": "text.delta", "turn": turn, "off": off, "text": piece }));
            off += piece.encode_utf16().count();
        }
        events.push(json!({ "type": "text.done", "turn": turn, "len": off }));
        let choices: Vec<Value> = (1..=choices)
            .map(|id| json!({ "id": format!("c{id}"), "label": format!("Way {id}"), "hint": "it costs" }))
            .collect();
        for choice in &choices {
            events.push(json!({ "type": "choice", "turn": turn, "choice": choice }));
        }
        events.push(json!({ "type": "choices.done", "turn": turn }));
        events.push(json!({ "type": "state.patch", "turn": turn, "patch": { "year": 476 } }));
        events
            .push(json!({ "type": "turn.done", "turn": turn, "scene": scene, "finish": "complete",
            "usage": { "input_tokens": 1, "output_tokens": 2 }, "hash": "00" }));
        world.log.extend(events);
        world.scenes.push(json!({ "id": scene, "parent": parent, "via": via, "text": text,
            "choices": choices, "state": {}, "finish": "complete" }));
        self.grown.send_replace(());
        turn
    }

    /// Ends the turn where it is held.
    fn stop(&self, turn: &Value) {
        let mut world = self.world.lock().unwrap();
        let Fault::HoldAfter(held) = std::mem::take(&mut world.fault) else {
            panic!("stop although nothing is held")
        };
        world.log.truncate(usize::try_from(held).unwrap());
        let done = json!({ "type": "turn.done", "turn": turn, "scene": "n1", "finish": "stopped",
            "usage": { "input_tokens": 1, "output_tokens": 2 }, "hash": "00" });
        world.log.push(done);
        self.grown.send_replace(());
    }

    async fn converse(self, mut socket: WebSocket) {
        let mut grown = self.grown.subscribe();
        let mut cursor: Option<usize> = None;
        let connection = {
            let mut world = self.world.lock().unwrap();
            world.connections += 1;
            world.connections
        };
        loop {
            // Everything that is in the log beyond the cursor, one event at a time.
            while let Some(at) = cursor {
                let (frame, fault) = {
                    let mut world = self.world.lock().unwrap();
                    let seq = at as u64 + 1;
                    if matches!(world.fault, Fault::HoldAfter(held) if seq > held) {
                        break;
                    }
                    let Some(event) = world.log.get(at) else { break };
                    let mut frame = event.clone();
                    frame["scenario"] = json!(SCENARIO);
                    frame["epoch"] = json!(format!("e{}", world.epoch));
                    frame["seq"] = json!(seq);
                    let hit = match world.fault {
                        Fault::CutAfter(at, _) | Fault::LoseLogAfter(at) | Fault::Skip(at) => {
                            at == seq && !std::mem::replace(&mut world.fault_done, at == seq)
                        }
                        Fault::CutEverywhere => true,
                        _ => false,
                    };
                    if hit && matches!(world.fault, Fault::LoseLogAfter(_)) {
                        world.epoch += 1;
                    }
                    (frame, hit.then_some(world.fault))
                };
                cursor = Some(at + 1);
                if matches!(fault, Some(Fault::Skip(_))) {
                    continue;
                }
                if socket.send(text(&frame)).await.is_err() {
                    return;
                }
                match fault {
                    None => {}
                    Some(Fault::CutAfter(_, Some(code))) => {
                        let close = CloseFrame { code, reason: "".into() };
                        let _ = socket.send(Message::Close(Some(close))).await;
                        return;
                    }
                    Some(_) => return,
                }
            }
            let message = tokio::select! {
                message = socket.recv() => message,
                _ = grown.changed() => continue,
            };
            let Some(Ok(message)) = message else { return };
            let Message::Text(message) = message else { continue };
            let frame: Value = serde_json::from_str(&message).unwrap();
            let id = frame["id"].clone();
            match frame["type"].as_str().unwrap() {
                "hello" => {
                    let refuse = {
                        let world = self.world.lock().unwrap();
                        let forgetful =
                            [Fault::RefuseFirstToken, Fault::ForgetLogins, Fault::ForgetGuests];
                        forgetful.contains(&world.fault) && frame["token"] == "access-1"
                    };
                    if refuse {
                        let error = json!({ "type": "error", "id": id, "error": "invalid_token",
                            "message": "the token has expired", "retryable": false });
                        let _ = socket.send(text(&error)).await;
                        let close = CloseFrame { code: 4500, reason: "".into() };
                        let _ = socket.send(Message::Close(Some(close))).await;
                        return;
                    }
                    let welcome = json!({ "type": "welcome", "id": id, "conn": connection.to_string(),
                        "ping_s": 25, "max_frame": 65536 });
                    let _ = socket.send(text(&welcome)).await;
                }
                "attach" => {
                    assert_eq!(frame["scenario"], SCENARIO);
                    let after = frame["after"].as_u64().unwrap_or(0);
                    let (epoch, head, snapshot) = {
                        let world = self.world.lock().unwrap();
                        let epoch = format!("e{}", world.epoch);
                        let head = world.log.len();
                        let recovered = frame["epoch"].is_null() || frame["epoch"] == epoch;
                        let snapshot = (!recovered).then(|| {
                            json!({ "type": "snapshot", "scenario": SCENARIO, "epoch": epoch,
                                "seq": head, "scenes": world.scenes, "open_turn": null })
                        });
                        (epoch, head, snapshot)
                    };
                    let recovered = snapshot.is_none();
                    let ack = json!({ "type": "ack", "id": id,
                        "result": { "epoch": epoch, "head": head, "recovered": recovered } });
                    let _ = socket.send(text(&ack)).await;
                    cursor = Some(if recovered { usize::try_from(after).unwrap() } else { head });
                    if let Some(snapshot) = snapshot {
                        let _ = socket.send(text(&snapshot)).await;
                    }
                }
                "stop" => {
                    self.stop(&frame["turn"]);
                    let ack = json!({ "type": "ack", "id": id, "result": {} });
                    let _ = socket.send(text(&ack)).await;
                }
                kind => {
                    assert_eq!(frame["scenario"], SCENARIO);
                    let cut = {
                        let mut world = self.world.lock().unwrap();
                        match world.fault {
                            Fault::CutAtCommand { taken } if !world.fault_done => {
                                world.fault_done = true;
                                Some(taken)
                            }
                            _ => None,
                        }
                    };
                    if cut == Some(false) {
                        return;
                    }
                    let idem = frame["idem"].as_str().unwrap_or_default().to_owned();
                    let known = self.world.lock().unwrap().answers.get(&idem).cloned();
                    let turn = known.unwrap_or_else(|| {
                        let words = frame["text"].as_str().or(frame["choice"].as_str());
                        let story = format!("Then came {}. It 𝄞 went on.", words.unwrap_or(kind));
                        let turn =
                            self.write_turn(json!({ "kind": kind, "text": words }), &story, 2);
                        let mut world = self.world.lock().unwrap();
                        world.idems.push(idem.clone());
                        world.commands.push(frame.clone());
                        world.answers.insert(idem, turn.clone());
                        turn
                    });
                    if cut == Some(true) {
                        return;
                    }
                    let ack = json!({ "type": "ack", "id": id, "result": { "turn": turn } });
                    let _ = socket.send(text(&ack)).await;
                }
            }
        }
    }
}

fn text(frame: &Value) -> Message {
    Message::Text(frame.to_string().into())
}

async fn issue(State(server): State<Server>, Path(what): Path<String>) -> Response {
    let mut world = server.world.lock().unwrap();
    let refused = match world.fault {
        Fault::ForgetLogins => what == "refresh",
        Fault::ForgetGuests => what != "register",
        _ => false,
    };
    if refused {
        let error = json!({ "error": "unauthenticated", "message": "no such login" });
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    world.registrations += usize::from(what == "register");
    world.tokens += 1;
    let number = world.tokens;
    let status = if what == "register" { StatusCode::CREATED } else { StatusCode::OK };
    let tokens = json!({ "access_token": format!("access-{number}"), "token_type": "Bearer",
        "expires_in": 900, "refresh_token": format!("refresh-{number}") });
    (status, Json(tokens)).into_response()
}

async fn create(State(server): State<Server>, headers: HeaderMap, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let first = {
        let mut world = server.world.lock().unwrap();
        world.creations.push(key);
        world.creations.len() == 1
    };
    if first {
        // The answer is lost once, as behind a proxy that gives up.
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let turn = server.write_turn(
        json!({ "kind": "prompt" }),
        "Rome never fell, and the legions of 罗马 stayed. Roads 𝄞 were kept.\n\nNobody wrote of decline.",
        3,
    );
    if server.world.lock().unwrap().fault == Fault::FailFirstTurn {
        let mut world = server.world.lock().unwrap();
        world.log.truncate(1);
        world.scenes.clear();
        world
            .log
            .push(json!({ "type": "turn.failed", "turn": turn, "error": "provider_unavailable",
            "message": "no provider answers", "retryable": true }));
    }
    let epoch = format!("e{}", server.world.lock().unwrap().epoch);
    let scenario = json!({ "id": SCENARIO, "prompt": body["prompt"], "turn": { "id": turn },
        "session": { "epoch": epoch, "head": 0 } });
    (StatusCode::CREATED, Json(scenario)).into_response()
}

async fn tree(State(server): State<Server>) -> Json<Value> {
    Json(json!({ "items": server.world.lock().unwrap().scenes }))
}

pub async fn serve(fault: Fault) -> (Server, String) {
    let world = Arc::new(Mutex::new(World { fault, ..World::default() }));
    let server = Server { world, grown: watch::channel(()).0 };
    let app = Router::new()
        .route("/api/v1/auth/{what}", post(issue))
        .route("/api/v1/scenarios", post(create))
        .route("/api/v1/scenarios/{id}/tree", get(tree))
        .route(
            "/api/v1/ws",
            get(|State(server): State<Server>, upgrade: WebSocketUpgrade| async {
                upgrade.protocols(["whatif.v1"]).on_upgrade(|socket| server.converse(socket))
            }),
        )
        .with_state(server.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (server, origin)
}
