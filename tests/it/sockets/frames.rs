//! RFC 6455 from below: frames as bytes, those that no library would send included, and how a socket ends.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::support::app::App;
use super::super::support::socket::{PATIENCE, Socket, read_frame};
use super::app;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The bit of a message's last frame.
const FIN: u8 = 0x80;

/// A frame with `first` as its first byte, masked as a client's has to be.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x5a, 0xc3, 0x01, 0xfe];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        long @ 126..0x1_0000 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
        longer => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(longer).unwrap().to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

fn ping(id: &str) -> String {
    json!({ "type": "ping", "id": id }).to_string()
}

async fn welcomed(app: &App) -> TcpStream {
    let reader = app.reader().await;
    Socket::hello(app, &reader).await.into_raw()
}

/// The server ends the connection in good order: no reset that could overtake what it said before.
async fn ends(tcp: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, tcp.read_to_end(&mut rest)).await.expect("an end in time");
    assert_eq!(read.expect("no reset"), 0, "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_gets_its_payload_back() {
    let app = app().await;
    let mut tcp = welcomed(&app).await;
    for payload in [&b""[..], b"are you there?", &[0xff; 125]] {
        tcp.write_all(&masked(FIN | PING, payload)).await.unwrap();
        assert_eq!(read_frame(&mut tcp).await, (PONG, payload.to_vec()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_fragments_is_one_message() {
    let app = app().await;
    let mut tcp = welcomed(&app).await;
    let text = ping("é𝄞");
    let bytes = text.as_bytes();
    // Also cut within a letter, and with a control frame between.
    let cut = text.find('𝄞').unwrap() + 2;
    tcp.write_all(&masked(TEXT, &bytes[..cut])).await.unwrap();
    tcp.write_all(&masked(FIN | PING, b"between")).await.unwrap();
    assert_eq!(read_frame(&mut tcp).await, (PONG, b"between".to_vec()));
    tcp.write_all(&masked(0, b"")).await.unwrap();
    tcp.write_all(&masked(FIN, &bytes[cut..])).await.unwrap();
    let (opcode, payload) = read_frame(&mut tcp).await;
    assert_eq!(opcode, TEXT);
    let pong: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(pong, json!({ "type": "pong", "id": "é𝄞" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_protocol_is_a_bad_frame() {
    let app = app().await;
    let text = ping("1");
    let text = text.as_bytes();
    let mut unmasked = vec![FIN | TEXT, u8::try_from(text.len()).unwrap()];
    unmasked.extend(text);
    let half = vec![b'x'; 40_000];
    for (name, bytes) in [
        ("no UTF-8", masked(FIN | TEXT, b"\xc3\x28")),
        ("UTF-8 cut off", masked(FIN | TEXT, b"\xe2\x82")),
        ("not masked", unmasked),
        ("a reserved bit", masked(FIN | 0x40 | TEXT, text)),
        ("a reserved opcode", masked(FIN | 3, text)),
        ("a reserved control opcode", masked(FIN | 11, b"")),
        ("nothing to go on with", masked(FIN, text)),
        ("a message within another", [masked(TEXT, text), masked(FIN | TEXT, text)].concat()),
        ("a control frame in fragments", masked(PING, b"x")),
        ("a control frame that is too long", masked(FIN | PING, &[0; 126])),
        ("a frame that is too long", masked(FIN | TEXT, &vec![b'x'; 65_537])),
        ("fragments that are too long", [masked(TEXT, &half), masked(FIN, &half)].concat()),
        ("a close with half a code", masked(FIN | CLOSE, &[3])),
        ("a close whose reason is no UTF-8", masked(FIN | CLOSE, &[3, 0xe8, 0xff])),
    ] {
        let mut tcp = welcomed(&app).await;
        tcp.write_all(&bytes).await.unwrap();
        assert_eq!(read_frame(&mut tcp).await, (CLOSE, close(4501, "bad_frame")), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_gets_the_same_close_back() {
    let app = app().await;
    for (said, answered) in [
        (close(1000, "good night"), close(1000, "good night")),
        (close(1001, ""), close(1001, "")),
        (close(4321, ""), close(4321, "")),
        (vec![], vec![]),
        // Codes that may not be sent: RFC 6455, 7.4.
        (close(999, ""), close(1002, "Protocol violation")),
        (close(1005, ""), close(1002, "Protocol violation")),
        (close(1006, ""), close(1002, "Protocol violation")),
    ] {
        let mut tcp = welcomed(&app).await;
        // What was asked before is answered before.
        tcp.write_all(&masked(FIN | TEXT, ping("last").as_bytes())).await.unwrap();
        assert_eq!(read_frame(&mut tcp).await.0, TEXT);
        tcp.write_all(&masked(FIN | CLOSE, &said)).await.unwrap();
        assert_eq!(read_frame(&mut tcp).await, (CLOSE, answered), "{said:?}");
        ends(&mut tcp).await;
    }
}

/// Who floods is told why, after everything that it was told before; and what it goes on sending does not reset that.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_answered_up_to_its_end() {
    let app = App::start_with(|config| config.sockets.commands_per_second = 1).await;
    for _ in 0..5 {
        let mut tcp = welcomed(&app).await;
        // The hello took the bucket's only token. 100 refusals are borne, and a few more if this takes a second.
        let ids = 0..150;
        let flood = ids.flat_map(|id| masked(FIN | TEXT, ping(&id.to_string()).as_bytes()));
        tcp.write_all(&flood.collect::<Vec<_>>()).await.unwrap();
        let mut answered = 0;
        loop {
            let (opcode, payload) = read_frame(&mut tcp).await;
            if opcode == CLOSE {
                assert_eq!(payload, close(4005, "too_many_requests"));
                break;
            }
            let answer: Value = serde_json::from_slice(&payload).unwrap();
            assert_eq!(answer["id"], answered.to_string(), "{answer}");
            answered += 1;
        }
        assert!(answered >= 100, "{answered} answers");
        tcp.write_all(&masked(FIN | TEXT, ping("late").as_bytes())).await.unwrap();
        tcp.write_all(&masked(FIN | CLOSE, &close(4005, ""))).await.unwrap();
        ends(&mut tcp).await;
    }
}
