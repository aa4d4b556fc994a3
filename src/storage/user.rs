//! Accounts, their credentials and their logins.
