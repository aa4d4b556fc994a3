-- Answers given to creating requests, by idempotency key. Times are microseconds since the Unix epoch.

CREATE TABLE answers (
    scope         TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    fingerprint   BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    -- The id that the created thing gets, whichever attempt creates it.
    reserved      BLOB    NOT NULL CHECK (length(reserved) = 16),
    attempt       INTEGER NOT NULL,
    -- Absent once the claim was abandoned.
    claimed_until INTEGER,
    status        INTEGER,
    body          BLOB,
    expires_at    INTEGER NOT NULL,
    PRIMARY KEY (scope, key),
    CHECK ((status IS NULL) = (body IS NULL))
) STRICT;

CREATE INDEX answers_by_expiry ON answers (expires_at);
