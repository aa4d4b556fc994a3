//! The same log as server-sent events.

use std::time::Duration;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::super::support::app::{App, Reader};
use super::super::support::socket::{PATIENCE, kind, seq};
use super::super::support::story::Story;
use super::{app, begin, first_choice, paced, quick, told, whole_log};

struct Sse {
    response: Response,
    buffer: String,
    comments: usize,
}

/// An event as a browser would see it.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    id: String,
    event: String,
    data: String,
}

impl Sse {
    async fn open(app: &App, reader: &Reader, scenario: &str, last: Option<&str>) -> Self {
        Self::get(app, reader, &format!("/scenarios/{scenario}/events"), last).await
    }

    async fn get(app: &App, reader: &Reader, path: &str, last: Option<&str>) -> Self {
        let mut request = app.request(Method::GET, path).bearer_auth(&reader.token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert!(headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
        assert_eq!(headers["cache-control"], "no-store");
        Self { response, buffer: String::new(), comments: 0 }
    }

    /// The next event; `None` at the stream's end.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
                    let value = lines.next().map(|value| value.trim_start().to_owned());
                    assert!(lines.next().is_none(), "{name} twice in {block}");
                    value
                };
                let sent = match block.starts_with(':') {
                    true => None,
                    false => Some(Sent {
                        id: field("id:").unwrap(),
                        event: field("event:").unwrap(),
                        data: field("data:").unwrap(),
                    }),
                };
                self.buffer = rest.to_owned();
                match sent {
                    Some(sent) => return Some(sent),
                    None => self.comments += 1,
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn more(&mut self) -> bool {
        let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("more in time");
        match chunk.unwrap() {
            Some(chunk) => self.buffer.push_str(std::str::from_utf8(&chunk).unwrap()),
            None => return false,
        }
        true
    }

    async fn take(&mut self, count: usize) -> Vec<Sent> {
        let mut sent = Vec::with_capacity(count);
        while sent.len() < count {
            sent.push(self.next().await.expect("the stream goes on"));
        }
        sent
    }

    async fn until_turn_over(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        loop {
            let sent = self.next().await.expect("the stream goes on");
            let over = ["turn.done", "turn.failed"].contains(&sent.event.as_str());
            all.push(sent);
            if over {
                return all;
            }
        }
    }
}

/// A socket's frame as it has to look here.
fn sent(epoch: &str, frame: &str) -> Sent {
    Sent { id: format!("{epoch}:{}", seq(frame)), event: kind(frame), data: frame.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_and_socket_tell_the_same_from_every_place() {
    let app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, mut log) = told(&app, &reader).await;
    let choice = first_choice(&log);
    let choose = json!({ "type": "choose", "scenario": scenario, "scene": "n1", "choice": choice });
    socket.turn(choose).await;
    log.extend(socket.until_turn_over().await);
    let epoch = Story::of(&log).epoch;
    let expected: Vec<Sent> = log.iter().map(|frame| sent(&epoch, frame)).collect();
    let path = format!("/scenarios/{scenario}/events");
    for after in 0..=log.len() {
        let place = format!("{epoch}:{after}");
        let rest = log.len() - after;
        let mut by_header = Sse::open(&app, &reader, &scenario, Some(&place)).await;
        assert_eq!(by_header.take(rest).await, expected[after..]);
        let mut by_query = Sse::get(&app, &reader, &format!("{path}?after={place}"), None).await;
        assert_eq!(by_query.take(rest).await, expected[after..]);
    }
    for start in [path.clone(), format!("{path}?after=0"), format!("{path}?after=")] {
        let mut stream = Sse::get(&app, &reader, &start, None).await;
        assert_eq!(stream.take(log.len()).await, expected, "{start}");
    }
    // A browser that reconnects sends both; what it saw last counts.
    let last = format!("{epoch}:{}", log.len() - 1);
    let mut stream = Sse::get(&app, &reader, &format!("{path}?after=0"), Some(&last)).await;
    assert_eq!(stream.take(1).await, expected[log.len() - 1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_turn_is_played_without_a_socket() {
    let app = paced(80.0).await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let mut stream = Sse::open(&app, &reader, &scenario, None).await;
    let mut story = Story::default();
    let events = stream.until_turn_over().await;
    assert!(events.len() > 10, "live, not at once");
    events.iter().for_each(|sent| story.apply(&sent.data));
    let choice = story.newest().choices[0]["id"].clone();
    let body = json!({ "kind": "choose", "scene": "n1", "choice": choice });
    let path = format!("/scenarios/{scenario}/turns");
    let (status, answer) = app.ask(&reader, Method::POST, &path, Some(body)).await;
    assert_eq!(status, 202, "{answer}");
    // Cut in the middle and taken up by the last id.
    let first = stream.take(6).await;
    first.iter().for_each(|sent| story.apply(&sent.data));
    drop(stream);
    let mut stream = Sse::open(&app, &reader, &scenario, Some(&first[5].id)).await;
    stream.until_turn_over().await.iter().for_each(|sent| story.apply(&sent.data));
    assert_eq!(story.newest().turn, answer["turn"].as_str().unwrap());
    story.agrees_with(&app, &reader, &scenario).await;
    let (_, log) = whole_log(&app, &reader, &scenario).await;
    assert_eq!(log.len() as u64, story.last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_is_not_held_gets_one_snapshot() {
    let app = app().await;
    let reader = app.reader().await;
    let (scenario, mut socket, log) = told(&app, &reader).await;
    let epoch = Story::of(&log).epoch;
    for place in ["other:0".to_owned(), "other:2".to_owned(), format!("{epoch}:999")] {
        let mut stream = Sse::open(&app, &reader, &scenario, Some(&place)).await;
        let snapshot = stream.next().await.unwrap();
        assert_eq!(snapshot.event, "snapshot");
        assert_eq!(snapshot.id, format!("{epoch}:{}", log.len()));
        socket.attach(&scenario, Some(("other", 2))).await;
        assert_eq!(socket.event().await, snapshot.data, "the socket's is the same");
        let mut story = Story::default();
        story.apply(&snapshot.data);
        story.agrees_with(&app, &reader, &scenario).await;
        // And then what happens next.
        let retry = json!({ "kind": "jump", "scene": "n1" });
        if place == "other:2" {
            let path = format!("/scenarios/{scenario}/turns");
            assert_eq!(app.ask(&reader, Method::POST, &path, Some(retry)).await.0, 202);
            stream.until_turn_over().await.iter().for_each(|sent| story.apply(&sent.data));
            story.agrees_with(&app, &reader, &scenario).await;
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_and_only_places_are_understood() {
    let app = app().await;
    let (ada, bob) = (app.reader().await, app.reader().await);
    let (scenario, ..) = told(&app, &ada).await;
    let path = format!("/scenarios/{scenario}/events");
    let (status, error) = app.ask(&bob, Method::GET, &path, None).await;
    assert_eq!((status, &error["error"]), (404, &json!("scenario_not_found")));
    for place in ["x", "e:", "e:-1", "7"] {
        let (status, error): (u16, Value) =
            app.ask(&ada, Method::GET, &format!("{path}?after={place}"), None).await;
        assert_eq!((status, &error["error"]), (422, &json!("invalid_request")), "{place}");
    }
    let stranger = app.http.get(app.url(&path)).send().await.unwrap();
    assert_eq!(stranger.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_stream_is_kept_alive_and_ends_with_the_replica() {
    let mut app = App::start_with(|config| {
        quick(config);
        config.sockets.ping_interval = Duration::from_millis(100);
    })
    .await;
    let reader = app.reader().await;
    let (scenario, _socket, log) = told(&app, &reader).await;
    let mut stream = Sse::open(&app, &reader, &scenario, None).await;
    stream.take(log.len()).await;
    while stream.comments < 3 {
        assert!(stream.more().await);
        stream.comments += stream.buffer.matches(":\n\n").count();
        assert!(stream.buffer.replace(":\n\n", "").is_empty(), "comments only");
        stream.buffer.clear();
    }
    let (_, end) = tokio::join!(app.stop(), stream.next());
    assert_eq!(end, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_also_while_it_tells() {
    let app = App::start_with(|config| {
        quick(config);
        config.providers.storyteller.words_per_second = 15.0;
        config.auth.access_ttl = Duration::from_secs(2);
    })
    .await;
    let reader = app.reader().await;
    let scenario = begin(&app, &reader).await;
    let mut stream = Sse::open(&app, &reader, &scenario, None).await;
    let mut seen = Vec::new();
    while let Some(sent) = stream.next().await {
        seen.push(sent.event);
    }
    assert!(seen.len() > 3, "{seen:?}");
    assert!(!seen.contains(&"turn.done".to_owned()), "told on after its token had run out");
}
