//! The one integration test binary; a module per subject.
mod history_store;
