//! Answers already given to creating requests, by idempotency key.
