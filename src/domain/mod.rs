//! Values and rules. No I/O, no runtime, no store: everything here can be tested with plain function calls.

pub mod budget;
pub mod defuse;
pub mod event;
pub mod ids;
pub mod login;
pub mod overlap;
pub mod patch;
pub mod recall;
pub mod scenario;
pub mod turn;
pub mod turn_format;
pub mod user;
pub mod windows;
pub mod wish;
pub mod world_state;
