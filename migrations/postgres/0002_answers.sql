-- Answers given to creating requests, by idempotency key.

CREATE TABLE answers (
    scope         text        NOT NULL,
    key           text        NOT NULL,
    fingerprint   bytea       NOT NULL CHECK (length(fingerprint) = 32),
    -- The id that the created thing gets, whichever attempt creates it.
    reserved      uuid        NOT NULL,
    attempt       bigint      NOT NULL,
    -- Absent once the claim was abandoned.
    claimed_until timestamptz,
    status        integer,
    body          bytea,
    expires_at    timestamptz NOT NULL,
    PRIMARY KEY (scope, key),
    CHECK ((status IS NULL) = (body IS NULL))
);

CREATE INDEX answers_by_expiry ON answers (expires_at);
