//! The actors: everything in the process that lives on its own, and how it is kept alive.
//!
//! `tree.rs` is the whole supervision tree as data; `supervisor.rs`, `pool/` and `circuit.rs` are the machinery; the
//! other modules are the services, each with its public handle. `http` talks to handles only. Actors talk to stores
//! and providers; they know nothing of HTTP.

pub mod answers;
pub mod budget;
pub mod cache;
pub mod chat;
pub mod circuit;
pub mod dependencies;
pub mod gateway;
pub mod generation;
pub mod history;
pub mod housekeeping;
pub mod limits;
pub mod moderation;
pub mod pool;
mod seal;
pub mod status;
pub mod supervisor;
pub mod tree;
pub mod user;
