//! whatif: the backend of What If Generator, in one process.
//!
//! The module list is the map of the house. Who may import whom:
//! `main -> boot -> http -> actors -> {storage, providers, storyteller} -> domain`; `error` and `clock` are leaves.

pub mod actors;
pub mod boot;
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
pub mod http;
pub mod play;
pub mod providers;
pub mod storage;
pub mod storyteller;
pub mod telemetry;
