//! What a socket may not do, and what it costs it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use super::super::support::app::{App, Reader};
use super::super::support::socket::{Came, Opening, Socket, kind, read_frame};
use super::super::support::story::Story;
use super::{app, begin, paced, quick, told, until_no_sockets};

/// A window that is full at once.
const STALLING: Opening<'static> =
    Opening { protocol: Some("whatif.v1"), token: None, receive_buffer: Some(4096) };

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_ends_the_socket() {
    let app = app().await;
    let reader = app.reader().await;
    let garbage = [
        Message::Binary(br#"{"type":"ping","id":"1"}"#.as_slice().into()),
        Message::Text("never".into()),
        Message::Text("[]".into()),
        Message::Text(r#"{"type":"ping"}"#.into()),
        Message::Text(r#"{"type":"ping","id":7}"#.into()),
        Message::Text(r#"{"id":"7"}"#.into()),
        Message::Text(json!({ "type": "ping", "id": "x".repeat(65_536) }).to_string().into()),
        Message::Text("x".repeat(1 << 20).into()),
        Message::Binary(vec![0; 1 << 20].into()),
    ];
    for frame in garbage {
        let mut socket = Socket::hello(&app, &reader).await;
        let length = frame.len();
        // The server may have closed before it has all of it.
        socket.try_send(frame).await;
        assert_eq!(socket.closed().await, Some(4501), "{length} bytes");
    }
    // 64 KiB are a frame still.
    let mut socket = Socket::hello(&app, &reader).await;
    let empty = json!({ "type": "ping", "id": "q2", "pad": "" }).to_string().len();
    let full = json!({ "type": "ping", "id": "q2", "pad": "x".repeat(65_536 - empty) });
    assert_eq!(full.to_string().len(), 65_536);
    socket.put(full).await;
    assert_eq!(socket.answer().await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_websocket_end_the_socket() {
    let app = app().await;
    let reader = app.reader().await;
    let socket = Socket::hello(&app, &reader).await;
    let mut tcp = socket.into_raw();
    // A text frame, masked with zeros, whose payload is no UTF-8.
    tcp.write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xff]).await.unwrap();
    assert_eq!(
        read_frame(&mut tcp).await,
        (8, [&4501_u16.to_be_bytes()[..], b"bad_frame"].concat())
    );
    let mut tcp = Socket::hello(&app, &reader).await.into_raw();
    // An opcode that nobody has defined.
    tcp.write_all(&[0x83, 0x80, 0, 0, 0, 0]).await.unwrap();
    let (opcode, payload) = read_frame(&mut tcp).await;
    assert_eq!((opcode, &payload[..2]), (8, &4501_u16.to_be_bytes()[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_an_error_and_nothing_more() {
    let app = app().await;
    let reader = app.reader().await;
    let mut socket = Socket::hello(&app, &reader).await;
    let id = "0190b5a0-0000-7000-8000-000000000001";
    for (question, code) in [
        (json!({ "type": "dance" }), "invalid_request"),
        (json!({ "type": "attach" }), "invalid_request"),
        (json!({ "type": "attach", "scenario": id, "after": -1 }), "invalid_request"),
        (json!({ "type": "attach", "scenario": "x" }), "scenario_not_found"),
        (json!({ "type": "attach", "scenario": id }), "scenario_not_found"),
        (json!({ "type": "choose", "scenario": id, "scene": "n1" }), "invalid_request"),
        (
            json!({ "type": "say", "scenario": id, "scene": "n1", "text": "go" }),
            "scenario_not_found",
        ),
        (json!({ "type": "stop", "scenario": id, "turn": id }), "scenario_not_found"),
        (json!({ "type": "refresh", "token": "x" }), "invalid_token"),
        (json!({ "type": "refresh", "token": app.reader().await.token }), "invalid_token"),
    ] {
        let shown = question.to_string();
        assert_eq!(socket.refused(question).await, code, "{shown}");
    }
    assert_eq!(socket.ask(json!({ "type": "ping" })).await["type"], "pong");
    assert_eq!(socket.ask(json!({ "type": "detach", "scenario": id })).await["type"], "ack");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_commands_a_second_and_then_patience_ends() {
    let app = App::start().await;
    let reader = app.reader().await;
    let mut socket = Socket::hello(&app, &reader).await;
    // Answers come in the order of the questions, each exactly once.
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(socket.put(json!({ "type": "ping" })).await);
    }
    let mut refused = 0;
    for id in ids {
        let answer = socket.answer().await;
        assert_eq!(answer["id"], id.as_str());
        if answer["type"] == "error" {
            assert_eq!(
                (&answer["error"], &answer["retryable"]),
                (&json!("rate_limited"), &json!(true))
            );
            refused += 1;
        }
    }
    assert!(refused >= 10, "{refused} of 40 refused");
    // Who does not heed it is sent away.
    let ping = Message::Text(r#"{"type":"ping","id":"x"}"#.into());
    assert_eq!(socket.flood(ping).await, Some(4005));
}

/// Answers that nobody takes are not piled up: the server stops to listen instead.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_answers_is_not_asked_for_more() {
    let app = App::start_with(|config| config.sockets.commands_per_second = u32::MAX).await;
    let reader = app.reader().await;
    let socket = Socket::hello_with(&app, &reader, STALLING).await;
    let asked = socket.ask_without_reading().await;
    assert!(asked > 64, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_runs_out_unless_it_is_refreshed() {
    let app = App::start_with(|config| {
        quick(config);
        config.auth.access_ttl = Duration::from_secs(3);
    })
    .await;
    let reader = app.reader().await;
    let mut left = Socket::hello(&app, &reader).await;
    let mut kept = Socket::hello(&app, &reader).await;
    // Tokens end on full seconds: the next one has to be made in another.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let body = json!({ "refresh_token": reader.refresh });
    let (status, tokens) = app.ask(&reader, Method::POST, "/auth/refresh", Some(body)).await;
    assert_eq!(status, 200, "{tokens}");
    let refresh = json!({ "type": "refresh", "token": tokens["access_token"] });
    assert_eq!(kept.ask(refresh).await["type"], "ack");
    assert_eq!(left.closed().await, Some(4002));
    assert_eq!(kept.ask(json!({ "type": "ping" })).await["type"], "pong");
    assert_eq!(kept.closed().await, Some(4002), "the second token runs out as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_pinged_and_then_ended() {
    let app = App::start_with(|config| {
        config.sockets.ping_interval = Duration::from_millis(200);
        config.sockets.pong_timeout = Duration::from_millis(900);
    })
    .await;
    let reader = app.reader().await;
    // This one answers pings, as every library does, whenever it is read from.
    let mut alive = Socket::hello(&app, &reader).await;
    let mut tcp = Socket::hello(&app, &reader).await.into_raw();
    let since = std::time::Instant::now();
    let dead = async {
        let mut pings = 0;
        loop {
            match read_frame(&mut tcp).await {
                (9, _) => pings += 1,
                (8, payload) => {
                    assert_eq!(payload[..2], 4004_u16.to_be_bytes());
                    break pings;
                }
                other => panic!("{other:?}"),
            }
        }
    };
    let pings = tokio::select! {
        pings = dead => pings,
        came = alive.came() => panic!("the live one got {came:?}"),
    };
    assert!(pings >= 2, "{pings} pings");
    assert!(since.elapsed() >= Duration::from_millis(800), "{:?}", since.elapsed());
    assert_eq!(alive.ask(json!({ "type": "ping" })).await["type"], "pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_sends_everyone_away_to_come_back() {
    let mut app = app().await;
    let reader = app.reader().await;
    let (scenario, mut one, events) = told(&app, &reader).await;
    let mut two = Socket::hello(&app, &reader).await;
    let (_, one, two) = tokio::join!(
        app.stop(),
        async {
            let code = one.closed().await;
            (code, one.notices)
        },
        async {
            let code = two.closed().await;
            (code, two.notices)
        }
    );
    for (code, notices) in [one, two] {
        assert_eq!(code, Some(4000));
        assert_eq!(notices.len(), 1);
        assert_eq!(notices[0]["type"], "going_away");
        assert!(notices[0]["after_ms"].as_u64().unwrap() <= 3_000);
    }
    app.restart().await;
    let mut again = Socket::hello(&app, &reader).await;
    let attached = again.attach(&scenario, None).await;
    assert_eq!(attached["recovered"], true);
    assert_eq!(again.take(events.len()).await, events);
}

/// A log of some megabytes: a text of four-byte letters, shown again and again.
async fn long_log(app: &App, reader: &Reader) -> String {
    let scenario = begin(app, reader).await;
    let mut socket = Socket::hello(app, reader).await;
    socket.attach(&scenario, None).await;
    socket.until_turn_over().await;
    let text = "𝄞é\n\"".repeat(5_000);
    socket.turn(json!({ "type": "edit", "scenario": scenario, "scene": "n1", "text": text })).await;
    socket.until_turn_over().await;
    for _ in 0..80 {
        socket.turn(json!({ "type": "jump", "scenario": scenario, "scene": "n2" })).await;
        socket.until_turn_over().await;
    }
    scenario
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stays_behind_is_let_go() {
    let app = App::start_with(|config| {
        quick(config);
        config.sockets.slow_timeout = Duration::from_millis(700);
    })
    .await;
    let reader = app.reader().await;
    let scenario = long_log(&app, &reader).await;
    until_no_sockets(&app).await;
    let mut stalled = Socket::hello_with(&app, &reader, STALLING).await;
    let attach = json!({ "type": "attach", "id": "a", "scenario": scenario });
    stalled.send(Message::Text(attach.to_string().into())).await;
    until_no_sockets(&app).await;
    // What was sent before the end is whole and in order.
    let mut story = Story::default();
    let code = loop {
        match stalled.came().await {
            Came::Frame(frame) if kind(&frame) == "ack" => {}
            Came::Frame(frame) => story.apply(&frame),
            Came::Closed(code) => break code,
        }
    };
    assert_eq!(code, Some(4003));
    assert!(story.last > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_fewer_and_fuller_frames_and_every_letter() {
    let app = app().await;
    let reader = app.reader().await;
    let scenario = long_log(&app, &reader).await;
    let mut slow = Socket::hello_with(&app, &reader, STALLING).await;
    let head = slow.attach(&scenario, None).await["head"].as_u64().unwrap();
    let mut story = Story::default();
    while story.last < head {
        story.apply(&slow.event().await);
    }
    assert!(story.merged > 0, "no frame was merged");
    story.agrees_with(&app, &reader, &scenario).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stalled_reader_holds_nobody_up() {
    let app = paced(60.0).await;
    let reader = app.reader().await;
    let long = long_log(&app, &reader).await;
    let mut stalled = Socket::hello_with(&app, &reader, STALLING).await;
    stalled.put(json!({ "type": "attach", "scenario": long })).await;
    let scenario = begin(&app, &reader).await;
    stalled.put(json!({ "type": "attach", "scenario": scenario })).await;
    let readers = (0..10).map(async |_| {
        let mut socket = Socket::hello(&app, &reader).await;
        socket.attach(&scenario, None).await;
        socket.until_turn_over().await
    });
    let seen = futures::future::join_all(readers).await;
    assert!(seen.iter().all(|events| *events == seen[0]));
    Story::of(&seen[0]).agrees_with(&app, &reader, &scenario).await;
    let (status, _): (u16, Value) = app.ask(&reader, Method::GET, "/users/me", None).await;
    assert_eq!(status, 200);
    drop(stalled);
}
