//! The one integration test binary; a module per subject.

mod accounts;
mod api;
mod history_store;
mod limits;
mod log_store;
mod openai;
mod play;
mod process;
mod servers;
mod smoke;
mod sockets;
mod support;
