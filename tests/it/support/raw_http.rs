//! An HTTP server that says exactly the bytes it is told to, for faults that no real server would produce on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

#[derive(Debug, Clone)]
pub enum Step {
    /// Bytes as they are.
    Raw(String),
    /// The head of a streamed answer.
    Head,
    /// One HTTP chunk; a client sees it as a piece of its own.
    Chunk(Vec<u8>),
    /// An SSE frame with this JSON, as one HTTP chunk.
    Frame(String),
    /// The end of a streamed answer.
    End,
    Pause(Duration),
    /// Waits until the client goes.
    Stall,
}

impl Step {
    pub fn text(text: &str) -> Self {
        Self::frame(serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}}]}))
    }

    pub fn finish(reason: &str) -> Self {
        Self::frame(
            serde_json::json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}),
        )
    }

    pub fn frame(json: serde_json::Value) -> Self {
        Self::Frame(json.to_string())
    }

    pub fn done() -> Self {
        Self::Frame("[DONE]".into())
    }
}

pub struct RawHttp {
    pub url: String,
    connections: Arc<AtomicUsize>,
    gone: mpsc::UnboundedReceiver<()>,
    server: JoinHandle<()>,
}

impl RawHttp {
    /// The n-th connection gets the n-th answer, all further ones the last. An answer's end closes the connection.
    pub async fn start(answers: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let connections = Arc::new(AtomicUsize::new(0));
        let (tell, gone) = mpsc::unbounded_channel();
        let counter = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let answer = answers[number.min(answers.len() - 1)].clone();
                let tell = tell.clone();
                tokio::spawn(async move {
                    if serve(socket, answer).await {
                        let _ = tell.send(());
                    }
                });
            }
        });
        Self { url, connections, gone, server }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until a client has left before its answer was complete.
    pub async fn client_gone(&mut self) {
        tokio::time::timeout(Duration::from_secs(10), self.gone.recv())
            .await
            .expect("the client closes its connection")
            .expect("the server runs");
    }
}

impl Drop for RawHttp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Returns whether the client left before its answer was complete.
async fn serve(mut socket: TcpStream, answer: Vec<Step>) -> bool {
    let _ = socket.set_nodelay(true);
    if !read_request(&mut socket).await {
        return true;
    }
    for step in answer {
        let bytes = match step {
            Step::Raw(text) => text.into_bytes(),
            Step::Head => {
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()
            }
            Step::Chunk(bytes) => chunk(&bytes),
            Step::Frame(data) => chunk(format!("data: {data}\n\n").as_bytes()),
            Step::End => b"0\r\n\r\n".to_vec(),
            Step::Pause(time) => {
                tokio::time::sleep(time).await;
                continue;
            }
            Step::Stall => {
                let mut rest = [0; 64];
                while matches!(socket.read(&mut rest).await, Ok(1..)) {}
                return true;
            }
        };
        if socket.write_all(&bytes).await.is_err() {
            return true;
        }
    }
    false
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// Reads the request whole, since closing a socket with unread bytes would reset it.
async fn read_request(socket: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        if let Some(head) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
            if request.len() >= head + 4 + length {
                return true;
            }
        }
        match socket.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return false,
        }
    }
}
