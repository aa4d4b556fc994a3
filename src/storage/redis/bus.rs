//! The bus between replicas: a channel per replica name. Redis keeps no message, so what is sent while a replica does
//! not listen is lost, and its sender knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connection::Redis;
use super::failure::Failure;
use super::subscriptions::{Heard, Subscriptions};
use crate::storage::bus::{BusError, MAX_MESSAGE_BYTES, MAX_UNREAD, ReplicaBus};

/// Messages by name, to whoever listens on the same Redis. A name belongs to one process.
pub struct RedisBus {
    redis: Redis,
    subscriptions: Subscriptions,
    /// Ends the listening under a name when another takes its place.
    listening: Mutex<HashMap<String, DropGuard>>,
}

impl RedisBus {
    pub fn new(redis: Redis, subscriptions: Subscriptions) -> Self {
        Self { redis, subscriptions, listening: Mutex::default() }
    }

    fn channel(&self, name: &str) -> String {
        self.redis.key(format_args!("bus:{{{name}}}"))
    }
}

impl From<Failure> for BusError {
    fn from(failure: Failure) -> Self {
        BusError::Unavailable(failure.to_string())
    }
}

#[async_trait]
impl ReplicaBus for RedisBus {
    async fn send(&self, to: &str, message: Bytes) -> Result<bool, BusError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(BusError::TooLarge { size_bytes: message.len() });
        }
        let mut publish = redis::cmd(self.subscriptions.publish_command());
        publish.arg(self.channel(to)).arg(&message[..]);
        let receivers: u64 = self.redis.query(&publish).await?;
        Ok(receivers > 0)
    }

    async fn listen(&self, name: &str) -> Result<mpsc::Receiver<Bytes>, BusError> {
        let (sender, receiver) = mpsc::channel(MAX_UNREAD);
        let begun = Arc::new(Notify::new());
        let ear = {
            let (sender, begun) = (sender.clone(), Arc::clone(&begun));
            move |heard| match heard {
                Heard::Begun => begun.notify_one(),
                Heard::Message(message) => {
                    if let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(message) {
                        metrics::counter!("whatif_bus_dropped_total").increment(1);
                    }
                }
                Heard::Deaf => {}
            }
        };
        let subscription = self.subscriptions.listen(&self.channel(name), ear);
        let limit = self.redis.config().response_timeout;
        if timeout(limit, begun.notified()).await.is_err() {
            return Err(Failure::timeout(limit).into());
        }
        let replaced = CancellationToken::new();
        let guard = replaced.clone().drop_guard();
        drop(lock(&self.listening).insert(name.to_owned(), guard));
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = replaced.cancelled() => {}
            }
            drop(subscription);
        });
        Ok(receiver)
    }
}

/// No code panics while it holds this, so a poisoned one is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
