//! What several subjects' tests share: servers to run against.

pub mod aimock;
pub mod app;
pub mod postgres;
pub mod raw_http;
pub mod redis;
pub mod socket;
pub mod story;
