-- Accounts. Ids are the 16 bytes of a UUID, times are microseconds since the Unix epoch.

CREATE TABLE users (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    email        TEXT    NOT NULL,
    -- The address as it is compared: trimmed, in lower case. Made by the service, so that every back end agrees.
    email_key    TEXT    NOT NULL UNIQUE,
    display_name TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    suspended_at INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Apart from users: an account that signs in by other means has none.
CREATE TABLE credentials (
    user_id    BLOB    NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    scheme     INTEGER NOT NULL,
    hash       TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A login is a family of refresh tokens. Only hashes are kept; the successor is sealed with the exchanged token.
CREATE TABLE logins (
    id            BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id       BLOB    NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    current_hash  BLOB    NOT NULL CHECK (length(current_hash) = 32),
    previous_hash BLOB    CHECK (length(previous_hash) = 32),
    rotated_at    INTEGER,
    successor     BLOB,
    created_at    INTEGER NOT NULL,
    last_used_at  INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    revoked_at    INTEGER,
    CHECK ((previous_hash IS NULL) = (rotated_at IS NULL)),
    CHECK ((previous_hash IS NULL) = (successor IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX logins_by_user ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);
