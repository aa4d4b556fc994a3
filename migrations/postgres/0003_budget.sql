-- What model calls cost. Money is in micro-dollars.

CREATE TABLE purses (
    name            text        PRIMARY KEY,
    tokens          bigint      NOT NULL CHECK (tokens >= 0),
    micros          bigint      NOT NULL CHECK (micros >= 0),
    -- For calls that still run.
    reserved_tokens bigint      NOT NULL CHECK (reserved_tokens >= 0),
    reserved_micros bigint      NOT NULL CHECK (reserved_micros >= 0),
    remember_until  timestamptz NOT NULL
);

CREATE INDEX purses_by_end ON purses (remember_until);

CREATE TABLE reservations (
    id     uuid        PRIMARY KEY,
    turn   uuid        NOT NULL,
    -- The names of the purses, in order, one to a line.
    purses text        NOT NULL,
    tokens bigint      NOT NULL,
    micros bigint      NOT NULL,
    due    timestamptz NOT NULL
);

CREATE INDEX reservations_by_turn ON reservations (turn);
CREATE INDEX reservations_by_due ON reservations (due);
