//! What several subjects' tests share: servers to run against.

pub mod aimock;
pub mod app;
pub mod postgres;
pub mod proxy;
pub mod raw_http;
pub mod redis;
pub mod servers;
pub mod socket;
pub mod story;
