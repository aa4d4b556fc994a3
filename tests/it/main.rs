//! The one integration test binary; a module per subject.

mod accounts;
mod accounts_store;
mod answers_store;
mod api;
mod budget_store;
mod bus;
mod chaos;
mod chat;
mod history_store;
mod limits;
mod log_model;
mod log_store;
mod logins;
mod moderation;
mod openai;
mod play;
mod postgres;
mod process;
mod servers;
mod shared;
mod smoke;
mod sockets;
mod support;
mod unplug;
mod vendors;
