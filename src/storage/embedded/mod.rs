//! Back ends that need no server: everything lives in this process and in the data directory.
//!
//! Built by boot when no server is configured. One process owns the data directory (boot holds a lock on it), so the
//! leases that these stores grant are leases between holders inside this process and are judged by its clock alone.

mod bells;
mod cache;
mod disk_log;
mod lease;
mod limits;
mod login;
mod memory_bus;
mod memory_log;
mod revocation;

pub use cache::LocalCache;
pub use disk_log::{DiskLog, OpenError};
pub use limits::LocalRateLimiter;
pub use login::LocalLogins;
pub use memory_bus::MemoryBus;
pub use memory_log::MemoryLog;
pub use revocation::LocalRevocations;

use std::sync::Arc;

/// A new log's epoch: 12 characters, 60 random bits.
pub(super) fn new_epoch() -> Arc<str> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let random: u64 = rand::random();
    let epoch: String =
        (0..12).map(|place| char::from(ALPHABET[(random >> (5 * place)) as usize & 31])).collect();
    epoch.into()
}
