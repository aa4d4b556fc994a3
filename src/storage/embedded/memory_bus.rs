//! The bus between replicas that live in one process: one of them as a rule, several in tests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::storage::bus::{BusError, MAX_MESSAGE_BYTES, MAX_UNREAD, ReplicaBus};

type Listeners = HashMap<Box<str>, mpsc::Sender<Bytes>>;

/// Messages by name, within this process. Share one between the replicas that should reach each other.
#[derive(Default)]
pub struct MemoryBus {
    listeners: Mutex<Listeners>,
}

impl MemoryBus {
    pub fn new() -> Self {
        Self::default()
    }

    /// No code panics while it holds this, so a poisoned one is whole.
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ReplicaBus for MemoryBus {
    async fn send(&self, to: &str, message: Bytes) -> Result<bool, BusError> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(BusError::TooLarge { size_bytes: message.len() });
        }
        let mut listeners = self.listeners();
        let Some(listener) = listeners.get(to) else { return Ok(false) };
        match listener.try_send(message) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => {
                metrics::counter!("whatif_bus_dropped_total").increment(1);
                Ok(true)
            }
            Err(TrySendError::Closed(_)) => {
                listeners.remove(to);
                Ok(false)
            }
        }
    }

    async fn listen(&self, name: &str) -> Result<mpsc::Receiver<Bytes>, BusError> {
        let (sender, receiver) = mpsc::channel(MAX_UNREAD);
        self.listeners().insert(name.into(), sender);
        Ok(receiver)
    }
}
