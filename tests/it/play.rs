//! `whatif play` against a small scripted server that speaks PROTOCOL.md and can cut the connection anywhere.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use whatif::play::{Options, Signal, Stage, Style, Width, run_with};

const SCENARIO: &str = "0190b5a0-0000-7000-8000-000000000001";

/// When and how the server breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Fault {
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
    /// The first access token is not good (any longer) on the socket.
    RefuseFirstToken,
}

#[derive(Default)]
struct World {
    log: Vec<Value>,
    epoch: u64,
    scenes: Vec<Value>,
    fault: Fault,
    fault_done: bool,
    /// `idem` of every command taken, in order.
    idems: Vec<String>,
    answers: std::collections::HashMap<String, String>,
    commands: Vec<Value>,
    creations: Vec<String>,
    registrations: usize,
    tokens: usize,
    connections: usize,
}

#[derive(Clone)]
struct Server {
    world: Arc<Mutex<World>>,
    grown: watch::Sender<()>,
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
                    let Some(event) = world.log.get(at) else { break };
                    let seq = at as u64 + 1;
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
                        world.fault == Fault::RefuseFirstToken && frame["token"] == "access-1"
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
    let epoch = format!("e{}", server.world.lock().unwrap().epoch);
    let scenario = json!({ "id": SCENARIO, "prompt": body["prompt"], "turn": { "id": turn },
        "session": { "epoch": epoch, "head": 0 } });
    (StatusCode::CREATED, Json(scenario)).into_response()
}

async fn tree(State(server): State<Server>) -> Json<Value> {
    Json(json!({ "items": server.world.lock().unwrap().scenes }))
}

async fn serve(fault: Fault) -> (Server, String) {
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

#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Played {
    outcome: anyhow::Result<()>,
    out: String,
    err: String,
}

fn options(server: &str) -> Options {
    Options {
        prompt: Some("What if Rome never fell?".into()),
        server: server.into(),
        scenario: None,
        email: None,
        password: None,
        genre: None,
        tone: None,
        length: None,
        language: None,
        provider: None,
        model: None,
        seed: None,
        width: None,
    }
}

/// Plays these lines through a pipe.
async fn play(options: Options, home: &std::path::Path, script: &[&str]) -> Played {
    let (typed, lines) = mpsc::channel(script.len().max(1));
    for line in script {
        typed.try_send((*line).to_owned()).unwrap();
    }
    drop(typed);
    let (_signal, signals) = mpsc::channel::<Signal>(1);
    let (out, err) = (Paper::default(), Paper::default());
    let style = Style { color: false, width: Width::Free, interactive: false, shared: false };
    let stage = Stage {
        lines,
        signals,
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        style,
        home: home.to_owned(),
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), run_with(options, stage)).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("stuck after: {}", out.text()));
    Played { outcome, out: out.text(), err: err.text() }
}

const SCRIPT: [&str; 3] = ["2", "the Huns turn back", "/quit"];

async fn play_script(fault: Fault) -> (Played, Server) {
    let (server, origin) = serve(fault).await;
    let home = tempfile::tempdir().unwrap();
    let played = play(options(&origin), home.path(), &SCRIPT).await;
    (played, server)
}

const STORY: &str = "\
What if Rome never fell?

Rome never fell, and the legions of 罗马 stayed. Roads 𝄞 were kept.

Nobody wrote of decline.

  1  Way 1
     it costs
  2  Way 2
     it costs
  3  Way 3
     it costs

› 2

Then came c2. It 𝄞 went on.

  1  Way 1
     it costs
  2  Way 2
     it costs

› the Huns turn back

Then came the Huns turn back. It 𝄞 went on.

  1  Way 1
     it costs
  2  Way 2
     it costs

› /quit
";

#[tokio::test]
async fn a_story_is_played_from_a_pipe() {
    let (played, server) = play_script(Fault::None).await;
    played.outcome.unwrap();
    assert_eq!(played.out, STORY);
    assert_eq!(played.err, "");
    let world = server.world.lock().unwrap();
    assert_eq!(world.creations.len(), 2, "the lost answer is asked for again");
    assert_eq!(world.creations[0], world.creations[1], "with the same key");
    assert_eq!(world.commands[0]["choice"], "c2");
    assert_eq!(world.commands[1]["text"], "the Huns turn back");
    assert!(world.idems.iter().all(|idem| uuid::Uuid::parse_str(idem).is_ok()));
}

#[tokio::test]
async fn a_cut_after_any_event_neither_loses_nor_doubles_a_letter() {
    let (_, server) = play_script(Fault::None).await;
    let events = server.world.lock().unwrap().log.len() as u64;
    assert!(events > 30);
    let codes = [None, Some(4000), Some(4001), Some(4002), Some(4003), Some(4004), Some(1011)];
    let all = (1..=events).map(|seq| {
        let code = codes[usize::try_from(seq).unwrap() % codes.len()];
        async move { (seq, code, play_script(Fault::CutAfter(seq, code)).await) }
    });
    for (seq, code, (played, server)) in futures::future::join_all(all).await {
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "cut after {seq} by {code:?}");
        // The player may have left before it noticed a cut after the last words.
        let connections = server.world.lock().unwrap().connections;
        assert!(connections == 2 || seq + 1 >= events, "cut after {seq}: {connections}");
    }
}

#[tokio::test]
async fn a_connection_that_lives_for_one_event_still_tells_the_story() {
    let (played, server) = play_script(Fault::CutEverywhere).await;
    played.outcome.unwrap();
    assert_eq!(played.out, STORY);
    assert!(played.err.lines().any(|line| line == "whatif: connection lost, resuming…"));
    assert!(server.world.lock().unwrap().connections > 30);
}

#[tokio::test]
async fn a_hole_is_filled_by_attaching_again() {
    let all = (1..=12).map(|seq| async move { (seq, play_script(Fault::Skip(seq)).await) });
    for (seq, (played, server)) in futures::future::join_all(all).await {
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "without {seq}");
        assert_eq!(server.world.lock().unwrap().connections, 1, "without {seq}");
    }
}

#[tokio::test]
async fn after_a_lost_log_the_snapshot_completes_what_was_shown() {
    let all = (1..=14).map(|seq| async move { (seq, play_script(Fault::LoseLogAfter(seq)).await) });
    for (seq, (played, _)) in futures::future::join_all(all).await {
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "lost after {seq}");
    }
}

#[tokio::test]
async fn a_command_cut_off_before_its_answer_is_carried_out_once() {
    for taken in [false, true] {
        let (played, server) = play_script(Fault::CutAtCommand { taken }).await;
        played.outcome.unwrap();
        assert_eq!(played.out, STORY, "taken: {taken}");
        assert_eq!(server.world.lock().unwrap().commands.len(), 2, "taken: {taken}");
    }
}

#[tokio::test]
async fn a_token_that_ran_out_is_renewed_without_a_word() {
    let (played, server) = play_script(Fault::RefuseFirstToken).await;
    played.outcome.unwrap();
    assert_eq!((played.out.as_str(), played.err.as_str()), (STORY, ""));
    assert_eq!(server.world.lock().unwrap().tokens, 2);
}

#[tokio::test]
async fn a_guest_is_registered_once_and_a_story_is_taken_up_again() {
    use std::os::unix::fs::PermissionsExt;

    let (server, origin) = serve(Fault::None).await;
    let home = tempfile::tempdir().unwrap();
    let played = play(options(&origin), home.path(), &["1"]).await;
    played.outcome.unwrap();
    let accounts = std::fs::metadata(home.path().join("accounts.json")).unwrap();
    assert_eq!(accounts.permissions().mode() & 0o777, 0o600);

    let again =
        Options { prompt: None, scenario: Some(SCENARIO.parse().unwrap()), ..options(&origin) };
    let played = play(again, home.path(), &["9", "/tree"]).await;
    played.outcome.unwrap();
    assert_eq!(
        played.out,
        "\n· n2 ·\n\nThen came c1. It 𝄞 went on.\n\n  1  Way 1\n     it costs\n  2  Way 2\n     it costs\n\n\
         › 9\n\nchoose 1 to 2, or write what happens\n\n\
         › /tree\n\n  n1   Rome never fell, and the legions of 罗马 stayed. Roads…\n▸ n2   c1\n\n› \n"
    );
    assert_eq!(server.world.lock().unwrap().registrations, 1);
}

#[tokio::test]
async fn codes_that_forbid_a_reconnection_end_the_game() {
    for code in [4501, 4503, 4504, 4505] {
        let (played, server) = play_script(Fault::CutAfter(3, Some(code))).await;
        let error = played.outcome.unwrap_err().to_string();
        assert!(error.contains(&code.to_string()), "{error}");
        assert_eq!(server.world.lock().unwrap().connections, 1);
    }
}

#[tokio::test]
async fn a_missing_server_is_explained_in_one_line() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let home = tempfile::tempdir().unwrap();
    let played = play(options(&origin), home.path(), &[]).await;
    let error = format!("{:#}", played.outcome.unwrap_err());
    assert!(error.contains(&origin) && error.contains("make run"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}
