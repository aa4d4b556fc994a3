//! What whatif buys or borrows from others, by capability; one file per vendor.
//!
//! Called by turns and service workers only. A provider knows its vendor's wire format and nothing of sessions,
//! logs or readers.

pub mod openai;
pub mod prompt;
pub mod storyteller;
pub mod text;
