//! What only a server that several share can do wrong: migrations by many at once, failures, replicas that are behind,
//! and what a whole replica of whatif makes of it.

mod app;
mod failures;
mod migrations;
mod replica;

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;
use whatif::domain::ids::UserId;
use whatif::domain::user::{Role, User};

/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Someone new.
fn user() -> User {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let id = UserId(Uuid::new_v4());
    User {
        id,
        email: format!("{id}@example.org"),
        display_name: "Ada".into(),
        role: Role::Reader,
        suspended_at: None,
        created_at: now,
        updated_at: now,
    }
}

/// Asks until the answer is yes.
async fn eventually(what: &str, ask: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ask().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
