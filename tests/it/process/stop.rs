use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
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

/// A client that keeps no connection, as load balancers' checks are.
async fn ready(server: &Server) -> Result<u16, reqwest::Error> {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    Ok(client.get(server.url("/health/ready")).send().await?.status().as_u16())
}

async fn until_not_ready(server: &Server) {
    let seen = async {
        while ready(server).await.expect("the listener stays open") != 503 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, seen).await.expect("it says that it is not ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_sees_that_it_is_not_ready_before_the_listener_closes() {
    let folder = tempdir().unwrap();
    let env = [("WHATIF__SERVER__DRAIN_DELAY", "2s")];
    let mut server = Server::start(folder.path(), 0, &env).await;
    assert_eq!(ready(&server).await.unwrap(), 200);
    server.signal("TERM").await;
    let since = Instant::now();
    until_not_ready(&server).await;
    while let Ok(status) = ready(&server).await {
        assert_eq!(status, 503);
    }
    assert!(since.elapsed() > Duration::from_millis(1_900), "{:?}", since.elapsed());
    assert_eq!(server.ended(SOON).await, Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_still_comes_is_served_but_begins_nothing_and_a_second_signal_ends_the_wait() {
    for second in ["TERM", "INT"] {
        let folder = tempdir().unwrap();
        let env = [
            PACED,
            ("WHATIF__SERVER__DRAIN_DELAY", "5m"),
            ("WHATIF__SERVER__DRAIN_TIMEOUT", "10m"),
        ];
        let mut server = Server::start(folder.path(), 0, &env).await;
        let account = server.register("ada@example.org").await;
        let token = account["access_token"].as_str().unwrap();
        let begun = server.scenario(token, "What if Rome never fell?").await;
        let mut reader = Reader::socket(token, begun["id"].as_str().unwrap());
        reader.read(&server, 5).await;
        server.signal("TERM").await;
        until_not_ready(&server).await;
        // Open sockets do not wait for the delay, and new ones are sent on at once.
        reader.read_to_end().await;
        assert_eq!(reader.closed_with(&server).await, 4000);
        server.register("bob@example.org").await;
        let wish = json!({ "prompt": "What if?", "seed": 7 });
        let begin = server.request(Method::POST, "/scenarios").bearer_auth(token).json(&wish);
        let refused = begin.send().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        let refused: Value = refused.json().await.unwrap();
        assert_eq!(refused["error"], "service_unavailable");
        server.signal(second).await;
        assert_eq!(server.ended(SOON).await, Some(0), "{second}: {}", server.log());
        assert!(server.log().contains("stopped") && !server.log().contains("without draining"));
        let again = Server::start(folder.path(), 0, &env).await;
        reader.read_turn(&again).await;
        reader.matches_store(&again).await;
    }
}
