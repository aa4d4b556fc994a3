-- Accounts. Ids and times come from the service, so no column makes one up.

CREATE TABLE users (
    id           uuid        NOT NULL PRIMARY KEY,
    email        text        NOT NULL,
    -- The address as it is compared: trimmed, in lower case. Made by the service, so that every back end agrees.
    email_key    text        NOT NULL UNIQUE,
    display_name text        NOT NULL,
    role         text        NOT NULL,
    suspended_at timestamptz,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);

-- Apart from users: an account that signs in by other means has none.
CREATE TABLE credentials (
    user_id    uuid        NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    scheme     smallint    NOT NULL,
    hash       text        NOT NULL,
    updated_at timestamptz NOT NULL
);

-- A login is a family of refresh tokens. Only hashes are kept; the successor is sealed with the exchanged token.
CREATE TABLE logins (
    id            uuid        NOT NULL PRIMARY KEY,
    user_id       uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    current_hash  bytea       NOT NULL CHECK (length(current_hash) = 32),
    previous_hash bytea       CHECK (length(previous_hash) = 32),
    rotated_at    timestamptz,
    successor     bytea,
    created_at    timestamptz NOT NULL,
    last_used_at  timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    revoked_at    timestamptz,
    CHECK ((previous_hash IS NULL) = (rotated_at IS NULL)),
    CHECK ((previous_hash IS NULL) = (successor IS NULL))
);

CREATE INDEX logins_by_user ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);
