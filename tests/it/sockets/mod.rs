//! The socket and the event stream as their clients see them, against a whole replica.

mod frames;
mod hello;
mod limits;
mod play;
mod resume;
mod sse;

use reqwest::Method;
use serde_json::Value;

use super::support::app::{App, Reader};
use super::support::socket::Socket;

const PROMPT: &str = "What if Rome never fell?";

/// A replica for clients that ask faster than people do.
async fn app() -> App {
    App::start_with(quick).await
}

/// As [`app`], telling at a pace.
async fn paced(words_per_second: f64) -> App {
    App::start_with(|config| {
        quick(config);
        config.providers.storyteller.words_per_second = words_per_second;
    })
    .await
}

fn quick(config: &mut whatif::config::Config) {
    config.sockets.commands_per_second = 10_000;
    config.sockets.max_connections_per_user = 100;
}

/// A scenario whose first turn has only just begun.
async fn begin(app: &App, reader: &Reader) -> String {
    id(&app.scenario(reader, PROMPT).await)
}

/// A scenario whose first scene is told, and a socket that has seen it.
async fn told(app: &App, reader: &Reader) -> (String, Socket, Vec<String>) {
    let scenario = begin(app, reader).await;
    let mut socket = Socket::hello(app, reader).await;
    socket.attach(&scenario, None).await;
    let events = socket.until_turn_over().await;
    (scenario, socket, events)
}

/// The whole log as a new socket gets it: epoch and frames.
async fn whole_log(app: &App, reader: &Reader, scenario: &str) -> (String, Vec<String>) {
    let mut socket = Socket::hello(app, reader).await;
    let attached = socket.attach(scenario, None).await;
    assert_eq!(attached["recovered"], true);
    let head = usize::try_from(attached["head"].as_u64().unwrap()).unwrap();
    (attached["epoch"].as_str().unwrap().to_owned(), socket.take(head).await)
}

/// The scenario's stored scenes.
async fn tree(app: &App, reader: &Reader, scenario: &str) -> Vec<Value> {
    let (status, tree) =
        app.ask(reader, Method::GET, &format!("/scenarios/{scenario}/tree"), None).await;
    assert_eq!(status, 200, "{tree}");
    tree["items"].as_array().unwrap().clone()
}

fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

/// The first choice that the last scene of these events offers.
fn first_choice(events: &[String]) -> String {
    let choices = events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let mut choices = choices.filter(|event| event["type"] == "choice");
    choices.next().unwrap()["choice"]["id"].as_str().unwrap().to_owned()
}

/// Waits until the replica has let every socket go.
async fn until_no_sockets(app: &App) {
    let gateway = app.replica().state().gateway.clone();
    let gone = async {
        while gateway.open_sockets() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(super::support::socket::PATIENCE, gone).await.expect("sockets are let go");
}
