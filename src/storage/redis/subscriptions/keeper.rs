//! Keeps Redis subscribed to what is listened to, for as long as the replica lives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use redis::RedisResult;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Shared;
use super::wire::Wire;
use crate::storage::redis::connection::Redis;

/// A connection that is cut off without a word is noticed within twice this time.
const CHECK: Duration = Duration::from_millis(400);
/// While not all is subscribed, everyone is told this often that it may be missing something.
const DEAF: Duration = Duration::from_millis(800);
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

pub(super) async fn keep(shared: Arc<Shared>, redis: Redis) {
    let wire = match Wire::lazy(&redis, &shared) {
        Ok(wire) => wire,
        // The same addresses were good for the commands.
        Err(error) => {
            tracing::error!(%error, "redis cannot be subscribed to; asking instead");
            return ring(&shared).await;
        }
    };
    let patience = redis.config().response_timeout.max(redis.config().connect_timeout);
    tokio::join!(ring(&shared), follow(&shared, &wire, patience));
}

/// Tells everyone now and then, as long as the connection cannot be trusted.
async fn ring(shared: &Shared) {
    loop {
        sleep(DEAF).await;
        if !shared.healthy.load(Ordering::Acquire) {
            shared.deaf();
        }
    }
}

async fn follow(shared: &Shared, wire: &Wire, patience: Duration) {
    let mut wait = Duration::ZERO;
    let mut was_healthy = true;
    loop {
        // Losses until now are mended by what follows; one after this moment is another.
        let _ = shared.lost.notified().now_or_never();
        match update(shared, wire, true, patience).await {
            Ok(()) => {
                shared.healthy.store(true, Ordering::Release);
                tracing::info!("redis subscriptions complete");
                (wait, was_healthy) = (Duration::ZERO, true);
                let error = tend(shared, wire, patience).await;
                tracing::warn!(error, "redis subscriptions lost; asking meanwhile");
            }
            Err(error) => {
                if std::mem::take(&mut was_healthy) {
                    tracing::warn!(error, "redis cannot be subscribed to; asking meanwhile");
                }
            }
        }
        shared.healthy.store(false, Ordering::Release);
        sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT);
    }
}

/// Follows changes until a connection is lost.
async fn tend(shared: &Shared, wire: &Wire, patience: Duration) -> String {
    let mut checks = interval(CHECK);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            biased;
            () = shared.lost.notified() => return "disconnected".to_owned(),
            () = shared.changed.notified() => update(shared, wire, false, patience).await,
            _ = checks.tick() => bounded(CHECK, wire.ping()).await,
        };
        if let Err(error) = done {
            return error;
        }
    }
}

/// Subscribes and unsubscribes what changed; `all` subscribes everything anew, for what was subscribed on a connection
/// is lost with it.
async fn update(shared: &Shared, wire: &Wire, all: bool, patience: Duration) -> Result<(), String> {
    let (wanted, unwanted) = shared.due(all);
    let done = bounded(patience, async {
        wire.subscribe(&wanted).await?;
        wire.unsubscribe(&unwanted).await
    });
    match done.await {
        Ok(()) => shared.begun(&wanted),
        Err(error) => {
            shared.put_back(unwanted);
            return Err(error);
        }
    }
    Ok(())
}

async fn bounded(
    limit: Duration,
    act: impl Future<Output = RedisResult<()>>,
) -> Result<(), String> {
    match timeout(limit, act).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
