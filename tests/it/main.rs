//! The one integration test binary; a module per subject.

mod accounts;
mod api;
mod history_store;
mod log_model;
mod log_store;
mod openai;
mod play;
mod process;
mod smoke;
mod sockets;
mod support;
