//! `kill -9` in the middle of turns: no event changes, none is lost, none repeats.

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::tempdir;

use super::super::support::app::PASSWORD;
use super::Server;
use super::reader::Reader;

/// Paced, so that there is a middle; leases that run out before a test does.
const ENV: [(&str, &str); 3] = [
    ("WHATIF__PROVIDERS__STORYTELLER__WORDS_PER_SECOND", "60"),
    ("WHATIF__SESSIONS__LEASE_TTL", "900ms"),
    ("WHATIF__SESSIONS__LEASE_RENEW", "300ms"),
];

/// Kills in each of the two tests.
const KILLS: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reader_notices_nothing_of_kills_but_a_pause() {
    survive(Reader::sse, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_reader_notices_nothing_of_kills_but_a_pause() {
    survive(Reader::socket, 0.5).await;
}

/// One kill per turn, at places spread over the turn; `shift` moves them by a part of their distance.
async fn survive(reader: fn(&str, &str) -> Reader, shift: f64) {
    let folder = tempdir().unwrap();
    let mut server = Server::start(folder.path(), 0, &ENV).await;
    let account = server.register("ada@example.org").await;
    let token = account["access_token"].as_str().unwrap();
    let begun = server.scenario(token, "What if Rome never fell?").await;
    let id = begun["id"].as_str().unwrap();
    let mut reader = reader(token, id);
    // The first turn is left alone: it says how many events a turn has.
    reader.read_turn(&server).await;
    let events = reader.seq;
    assert!(events > 20, "a turn of {events} events has no middle");
    let mut scene = reader.matches_store(&server).await;
    for kill in 0..KILLS {
        let part = (kill as f64 + shift) / KILLS as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small count"
        )]
        let after = ((events as f64 * part) as usize).max(1);
        go_on(&server, token, id, &scene).await;
        reader.read(&server, after).await;
        // Acknowledged a moment before the end.
        let email = format!("late-{kill}@example.org");
        let late = server.register(&email).await;
        let other = server.scenario(token, &format!("What if {kill}?")).await;
        let port = server.kill().await;
        reader.read_to_end().await;
        server = Server::start(folder.path(), port, &ENV).await;
        remembers(&server, token, &email, &late, &other).await;
        if reader.done.len() == kill + 1 {
            reader.read_turn(&server).await;
        }
        assert_eq!(reader.done.len(), kill + 2);
        scene = reader.matches_store(&server).await;
        assert_eq!(scene["id"], format!("n{}", kill + 2), "ids keep counting");
    }
}

/// Starts the next turn: a choice if there is one, else the scene told anew.
async fn go_on(server: &Server, token: &str, id: &str, scene: &Value) {
    let command = match scene["choices"].get(0) {
        Some(choice) => json!({ "kind": "choose", "scene": scene["id"], "choice": choice["id"] }),
        None => json!({ "kind": "retry", "scene": scene["id"] }),
    };
    let request = server.request(Method::POST, &format!("/scenarios/{id}/turns"));
    let (status, answer) = server.ask(request.bearer_auth(token).json(&command)).await;
    assert_eq!(status, 202, "{answer}");
}

/// What was acknowledged before a kill is still there.
async fn remembers(server: &Server, token: &str, email: &str, late: &Value, other: &Value) {
    let login = json!({ "email": email, "password": PASSWORD });
    let (status, _) = server.ask(server.request(Method::POST, "/auth/login").json(&login)).await;
    assert_eq!(status, 200, "an account was lost");
    let refresh = json!({ "refresh_token": late["refresh_token"] });
    let request = server.request(Method::POST, "/auth/refresh").json(&refresh);
    assert_eq!(server.ask(request).await.0, 200, "a login was lost");
    let late = late["access_token"].as_str().unwrap();
    let (status, _) = server.ask(server.request(Method::GET, "/users/me").bearer_auth(late)).await;
    assert_eq!(status, 200, "an access token was lost");
    let path = format!("/scenarios/{}", other["id"].as_str().unwrap());
    let (status, _) = server.ask(server.request(Method::GET, &path).bearer_auth(token)).await;
    assert_eq!(status, 200, "a scenario was lost");
}
