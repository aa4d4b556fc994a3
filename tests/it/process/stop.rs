use std::time::Duration;

use reqwest::Method;
use tempfile::tempdir;

use super::Server;
use super::reader::Reader;

const PACED: (&str, &str) = ("WHATIF__PROVIDERS__STORYTELLER__WORDS_PER_SECOND", "20");

/// A drain, with a margin for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_and_the_turn_goes_on_after_the_next_start() {
    for signal in ["TERM", "INT"] {
        let folder = tempdir().unwrap();
        let env = [PACED, ("WHATIF__SERVER__DRAIN_TIMEOUT", "10s")];
        let mut server = Server::start(folder.path(), 0, &env).await;
        let account = server.register("ada@example.org").await;
        let token = account["access_token"].as_str().unwrap();
        let begun = server.scenario(token, "What if Rome never fell?").await;
        let mut reader = Reader::sse(token, begun["id"].as_str().unwrap());
        reader.read(&server, 5).await;
        server.signal(signal).await;
        // A stream is told to come back, not cut off at the deadline.
        reader.read_to_end().await;
        assert_eq!(server.ended(SOON).await, Some(0), "{signal}: {}", server.log());
        let refused = server.request(Method::GET, "/health/live").send().await;
        assert!(refused.is_err(), "{signal}");
        let again = Server::start(folder.path(), 0, &env).await;
        reader.read_turn(&again).await;
        reader.matches_store(&again).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_interrupt_does_not_wait() {
    let folder = tempdir().unwrap();
    let mut server = Server::start(folder.path(), 0, &[]).await;
    // A request that never arrives whole keeps a drain waiting.
    let mut stuck = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let head = b"POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stuck, head).await.unwrap();
    // Answered after it on another connection: the server has both.
    let (status, _) = server.ask(server.request(Method::GET, "/health/live")).await;
    assert_eq!(status, 200);
    server.signal("INT").await;
    loop {
        if server.request(Method::GET, "/health/live").send().await.is_err() {
            break;
        }
    }
    server.signal("INT").await;
    assert_eq!(server.ended(Duration::from_secs(5)).await, Some(0), "{}", server.log());
}
