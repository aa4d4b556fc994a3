//! A vendor that is unplugged: it tells the script in OpenAI's format, and most of the time its connection ends, or falls silent,
//! at a byte drawn from the seed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use whatif::domain::budget::estimate_tokens;
use whatif::domain::scenario::Usage;

use super::script;

pub const VENDORS: [&str; 3] = ["first", "second", "third"];
/// Of ten calls, so many are told to the end, and so many of the others fall silent instead of ending.
const WHOLE_OF_TEN: u64 = 3;
const SILENT_OF_TEN: u64 = 1;
/// Bytes that are written at a time.
const PIECE: usize = 300;
const HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// What a vendor was asked, and what it said.
pub struct Call {
    pub mark: usize,
    /// What readers had seen.
    pub shown: String,
    /// Only choices and patch were wanted.
    pub prose_done: bool,
    pub input_tokens: u64,
    /// Of what it said, all that left it in whole events.
    pub said: String,
    pub whole: bool,
    pub usage: Usage,
}

pub type Calls = Arc<Mutex<Vec<Call>>>;

pub struct Vendor {
    pub url: String,
    server: JoinHandle<()>,
}

/// A number that follows from others alone (splitmix64).
fn draw(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl Vendor {
    pub async fn start(number: usize, seed: u64, calls: Calls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, number, seed, Arc::clone(&calls)));
            }
        });
        Self { url, server }
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(mut socket: TcpStream, number: usize, seed: u64, calls: Calls) {
    let _ = socket.set_nodelay(true);
    let Some(request) = read_request(&mut socket).await else { return };
    let messages = request["messages"].as_array().expect("messages");
    let content = |at: usize| messages.get(at).map(|message| message["content"].as_str().unwrap());
    let mark = script::find_mark(content(1).expect("a task"));
    let shown = content(2).unwrap_or_default().to_owned();
    let prose_done = content(3).is_some_and(|ask| ask.starts_with("The prose of this scene is"));
    let text = match prose_done {
        true => script::rest(),
        false => script::go_on(&script::prose(mark), &shown, number),
    };
    let lot = |what: u64| draw(&[seed, mark as u64, number as u64, what]);
    let usage = Usage { input_tokens: 1_000 + mark as u64, output_tokens: 70 + number as u64 };
    let (body, ends) = body(&text, usage, lot(1));
    let whole = lot(2) % 10 < WHOLE_OF_TEN;
    let silent = lot(3) % 10 < SILENT_OF_TEN;
    let last_text = ends.last().expect("a text").1;
    let most = HEAD.len() + last_text;
    let cut = if whole { HEAD.len() + body.len() } else { (lot(4) % most as u64) as usize };
    let said = ends.iter().take_while(|(_, end)| HEAD.len() + end <= cut).map(|(text, _)| &**text);
    let said = said.collect();
    let sizes = messages.iter().map(|message| {
        // As the product estimates it: each message has a frame of its own.
        8 + estimate_tokens(message["content"].as_str().unwrap())
    });
    let input_tokens = sizes.sum();
    calls.lock().unwrap().push(Call { mark, shown, prose_done, input_tokens, said, whole, usage });

    let bytes = [HEAD, &body].concat();
    for piece in bytes[..cut].chunks(PIECE) {
        if socket.write_all(piece).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if !whole && silent {
        let mut rest = [0; 64];
        while matches!(socket.read(&mut rest).await, Ok(1..)) {}
    }
}

/// The answer, one event to a chunk, and each text with the place where its event ends.
fn body(text: &str, usage: Usage, lot: u64) -> (Vec<u8>, Vec<(String, usize)>) {
    let mut body = Vec::new();
    let mut ends = Vec::new();
    let mut add = |event: &str| {
        let data = format!("data: {event}\n\n");
        body.extend_from_slice(format!("{:x}\r\n{data}", data.len()).as_bytes());
        let end = body.len();
        body.extend_from_slice(b"\r\n");
        end
    };
    let mut rest = text;
    for at in 0.. {
        if rest.is_empty() {
            break;
        }
        let size = 1 + (draw(&[lot, at]) % 9) as usize;
        let (piece, after) = rest.split_at(size.min(rest.len()));
        ends.push((piece.to_owned(), add(&script::text_frame(piece).to_string())));
        rest = after;
    }
    add(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }).to_string());
    let Usage { input_tokens, output_tokens } = usage;
    let counted = json!({ "prompt_tokens": input_tokens, "completion_tokens": output_tokens });
    add(&json!({ "choices": [], "usage": counted }).to_string());
    add("[DONE]");
    body.extend_from_slice(b"0\r\n\r\n");
    (body, ends)
}

/// The body of the only request of a connection; `None` if the client has left, or asked for anything but a scene.
async fn read_request(socket: &mut TcpStream) -> Option<Value> {
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"))?;
            let length: usize = length.trim().parse().ok()?;
            if let Some(body) = request.get(head + 4..head + 4 + length) {
                return serde_json::from_slice(body).ok();
            }
        }
        match socket.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return None,
        }
    }
}
