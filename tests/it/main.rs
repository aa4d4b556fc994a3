//! The one integration test binary; a module per subject.

mod log_store;
mod history_store;
mod openai;
mod support;
mod play;
