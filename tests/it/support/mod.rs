//! What several subjects' tests share: servers to run against.

pub mod aimock;
pub mod app;
pub mod raw_http;
pub mod servers;
pub mod socket;
pub mod story;
