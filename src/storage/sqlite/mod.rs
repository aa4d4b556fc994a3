//! SQLite back ends (sqlx): the embedded default for accounts.
