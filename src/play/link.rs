//! The connection that comes back: a task that keeps one authenticated WebSocket open.
//!
//! It connects, says hello, hands frames on in order and, after any cut, connects again with a jittered backoff. It
//! knows close codes and tokens, nothing of scenarios: whoever owns it attaches again after every [`LinkEvent::Up`].

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures::{SinkExt, StreamExt};
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::account::Account;
use super::client::{CallError, Client, Socket};
use super::wire::{self, Incoming};

/// How long a server may stay away before the player gives up.
const GIVE_UP: Duration = Duration::from_secs(10 * 60);
/// For the welcome after a hello, and for a frame to be written.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far beyond the server's ping interval silence means that the connection is dead.
const SILENCE_MARGIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub enum LinkEvent {
    /// Connected and authenticated; frames for this connection go into the sender.
    Up(mpsc::Sender<String>),
    Frame(Box<Incoming>),
    /// Cut; the link is on its way back. `planned` when the server had announced it.
    Down {
        planned: bool,
    },
    /// It will not come back.
    Fatal(anyhow::Error),
}

/// What ends one connection.
#[derive(Debug)]
enum End {
    Lost {
        planned: bool,
    },
    TokenExpired,
    Unauthorized,
    Fatal(anyhow::Error),
    /// The owner is gone.
    Released,
}

/// Starts the task. Dropping the receiver ends it.
pub fn start(client: Client, account: Arc<Mutex<Account>>) -> mpsc::Receiver<LinkEvent> {
    // Small: a player who is behind is a slow reader, which the server knows how to treat.
    let (events, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        if let Some(error) = keep_open(&client, &account, &events).await {
            let _ = events.send(LinkEvent::Fatal(error)).await;
        }
    });
    receiver
}

async fn keep_open(
    client: &Client,
    account: &Mutex<Account>,
    events: &mpsc::Sender<LinkEvent>,
) -> Option<anyhow::Error> {
    let mut attempt = 0;
    let mut away_since = Instant::now();
    // A token that the server refused right after it was issued is not worth another one.
    let mut renewed = false;
    loop {
        let token = account.lock().await.access_token().to_owned();
        let mut connection = Connection { up: false, progress: false };
        let end = tokio::select! {
            end = connection.run(client, &token, events) => end,
            () = events.closed() => End::Released,
        };
        if connection.progress {
            attempt = 0;
            renewed = false;
        }
        if connection.up {
            away_since = Instant::now();
            let planned = matches!(end, End::Lost { planned: true } | End::TokenExpired);
            if events.send(LinkEvent::Down { planned }).await.is_err() {
                return None;
            }
        }
        match end {
            End::Released => return None,
            End::Fatal(error) => return Some(error),
            End::Lost { .. } => {}
            End::Unauthorized if renewed => {
                return Some(anyhow!("the server does not accept this login"));
            }
            End::TokenExpired | End::Unauthorized => {
                renewed = true;
                match account.lock().await.renew(&token).await {
                    Ok(_) if attempt == 0 => {
                        attempt = 1;
                        continue;
                    }
                    Ok(_) => {}
                    Err(error) => match error.downcast_ref::<CallError>() {
                        Some(cause) if cause.is_passing() => renewed = false,
                        _ => return Some(error.context("cannot log in again")),
                    },
                }
            }
        }
        if away_since.elapsed() > GIVE_UP {
            return Some(anyhow!(
                "the server did not come back within {} minutes",
                GIVE_UP.as_secs() / 60
            ));
        }
        tokio::select! {
            () = tokio::time::sleep(backoff(attempt, rand::random())) => attempt += 1,
            () = events.closed() => return None,
        }
    }
}

/// The wait before try `attempt` (from 0): doubling from 0.2 s to 15 s, of which `jitter` (0 to 1) spreads half.
fn backoff(attempt: u32, jitter: f64) -> Duration {
    let whole = Duration::from_millis(200 << attempt.min(10)).min(Duration::from_secs(15));
    whole.mul_f64(0.5 + 0.5 * jitter)
}

struct Connection {
    /// It was announced as up.
    up: bool,
    /// The server sent more than its welcome.
    progress: bool,
}

impl Connection {
    async fn run(&mut self, client: &Client, token: &str, events: &mpsc::Sender<LinkEvent>) -> End {
        let mut socket = match client.socket().await {
            Ok(socket) => socket,
            Err(error) if error.is_unauthenticated() => return End::Unauthorized,
            Err(error) if error.is_passing() => {
                tokio::time::sleep(error.retry_after().unwrap_or_default().min(PATIENCE)).await;
                return End::Lost { planned: false };
            }
            Err(error) => return End::Fatal(error.into()),
        };
        let hello = json!({ "type": "hello", "id": "hello", "token": token }).to_string();
        if !send(&mut socket, hello).await {
            return End::Lost { planned: false };
        }
        let (outbox, mut commands) = mpsc::channel::<String>(64);
        let mut outbox = Some(outbox);
        let mut silence = PATIENCE;
        // Set once the server has said that it goes away: leave then, if it has not closed before.
        let mut leave_at: Option<Instant> = None;
        loop {
            let planned = leave_at.is_some();
            let message = tokio::select! {
                message = timeout(silence, socket.next()) => message,
                () = until(leave_at) => {
                    let _ = timeout(Duration::from_millis(300), socket.close(None)).await;
                    return End::Lost { planned };
                }
                command = commands.recv(), if self.up => {
                    let Some(command) = command else {
                        let _ = timeout(Duration::from_millis(300), socket.close(None)).await;
                        return End::Released;
                    };
                    if !send(&mut socket, command).await {
                        return End::Lost { planned };
                    }
                    continue;
                }
            };
            let text = match message {
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Close(close)))) => {
                    let (code, reason) = close.map_or((1005, String::new()), |close| {
                        (close.code.into(), close.reason.to_string())
                    });
                    return close_meaning(code, &reason);
                }
                Ok(Some(Ok(_))) => continue,
                Err(_) | Ok(None | Some(Err(_))) => return End::Lost { planned },
            };
            let event = match wire::decode(&text) {
                Ok(Incoming::Welcome { ping_s }) => {
                    silence = Duration::from_secs(ping_s) + SILENCE_MARGIN;
                    self.up = true;
                    outbox.take().map(LinkEvent::Up)
                }
                Ok(Incoming::Error(refusal)) if !self.up => {
                    return match refusal.code.as_str() {
                        "invalid_token" | "unauthenticated" => End::Unauthorized,
                        _ if refusal.retryable => End::Lost { planned },
                        _ => End::Fatal(anyhow!("{} ({})", refusal.message, refusal.code)),
                    };
                }
                Ok(Incoming::GoingAway { after_ms }) => {
                    leave_at = Some(Instant::now() + Duration::from_millis(after_ms));
                    None
                }
                Ok(frame) => {
                    self.progress = true;
                    Some(LinkEvent::Frame(Box::new(frame)))
                }
                Err(error) => {
                    return End::Fatal(anyhow!(
                        "the server sent a frame this client cannot read: {error}"
                    ));
                }
            };
            if let Some(event) = event
                && events.send(event).await.is_err()
            {
                return End::Released;
            }
        }
    }
}

/// Ends at the deadline, or never.
pub async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn send(socket: &mut Socket, text: String) -> bool {
    matches!(timeout(PATIENCE, socket.send(Message::text(text))).await, Ok(Ok(())))
}

/// What a close code asks of a client. Codes below 4000 say nothing about the application.
fn close_meaning(code: u16, reason: &str) -> End {
    let fatal = |what: &str| {
        let reason = if reason.is_empty() { what } else { reason };
        End::Fatal(anyhow!("the server closed the connection for good: {reason} ({code})"))
    };
    match code {
        4000 => End::Lost { planned: true },
        4002 => End::TokenExpired,
        4500 => End::Unauthorized,
        4501 => fatal("it could not read a frame of ours"),
        4502 => fatal("no hello arrived in time"),
        4503 => fatal("it speaks another version of the protocol"),
        4504 => fatal("too many connections of this account"),
        4505 => fatal("this account is banned"),
        4506..=4599 => fatal("it asks not to come back"),
        _ => End::Lost { planned: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_mean_what_the_contract_says() {
        for code in [1000, 1001, 1005, 1006, 1011, 4001, 4003, 4004, 4005] {
            assert!(matches!(close_meaning(code, ""), End::Lost { planned: false }), "{code}");
        }
        assert!(matches!(close_meaning(4000, ""), End::Lost { planned: true }));
        assert!(matches!(close_meaning(4002, ""), End::TokenExpired));
        assert!(matches!(close_meaning(4500, ""), End::Unauthorized));
        for code in [4501, 4502, 4503, 4504, 4505, 4599] {
            assert!(matches!(close_meaning(code, ""), End::Fatal(_)), "{code}");
        }
    }

    #[test]
    fn waits_grow_to_a_bound_and_spread() {
        assert_eq!(backoff(0, 0.0), Duration::from_millis(100));
        assert_eq!(backoff(0, 1.0), Duration::from_millis(200));
        assert_eq!(backoff(3, 1.0), Duration::from_millis(1600));
        assert_eq!(backoff(40, 1.0), Duration::from_secs(15));
        assert_eq!(backoff(40, 0.0), Duration::from_millis(7500));
    }
}
