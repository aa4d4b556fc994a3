//! What replicas share through Redis: event logs with their leases, the bus between replicas, rate limits, revocations,
//! login sessions, a cache.
//!
//! Everything runs over one [`Redis`] handle, whether a single server or a cluster stands behind it. Keys that a script
//! changes together share a hash tag, so that they are on one node. All times are Redis's own.

mod bus;
mod cache;
mod connection;
mod failure;
mod limits;
mod log;
mod login;
mod probe;
mod revocation;
mod script;
mod subscriptions;

pub use bus::RedisBus;
pub use cache::RedisCache;
pub use connection::Redis;
pub use failure::{ConnectError, Failure};
pub use limits::RedisRateLimiter;
pub use log::RedisLog;
pub use login::RedisLogins;
pub use revocation::RedisRevocations;
pub use script::{Call, Script};
pub use subscriptions::Subscriptions;
