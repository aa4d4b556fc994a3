//! Short messages between replicas.
//!
//! A command that arrives at a replica which does not own its session travels to the owner this way, and its answer
//! back. Delivery is at most once and not in order: what is sent must be safe to send again.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

/// Messages that a replica may leave unread before more to it are dropped.
pub const MAX_UNREAD: usize = 1_024;
/// Largest message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("too large: {size_bytes} bytes, at most {MAX_MESSAGE_BYTES}")]
    TooLarge { size_bytes: usize },
    /// The bus cannot be reached. The message may or may not have arrived.
    #[error("bus unavailable: {0}")]
    Unavailable(String),
}

/// The way from replica to replica. Replicas are addressed by the name under which they hold leases.
#[async_trait]
pub trait ReplicaBus: Send + Sync + 'static {
    /// Hands `message` to the replica named `to`. `Ok(false)`: nobody of that name listens.
    async fn send(&self, to: &str, message: Bytes) -> Result<bool, BusError>;

    /// Begins to listen under `name`; the messages to it arrive on the channel, which ends never while the bus lives.
    /// A second call with the same name takes the first one's place.
    async fn listen(&self, name: &str) -> Result<mpsc::Receiver<Bytes>, BusError>;
}
