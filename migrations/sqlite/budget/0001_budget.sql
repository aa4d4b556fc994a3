-- What model calls cost. Money is in micro-dollars, times are microseconds since the Unix epoch.

CREATE TABLE purses (
    name            TEXT    PRIMARY KEY,
    tokens          INTEGER NOT NULL CHECK (tokens >= 0),
    micros          INTEGER NOT NULL CHECK (micros >= 0),
    -- For calls that still run.
    reserved_tokens INTEGER NOT NULL CHECK (reserved_tokens >= 0),
    reserved_micros INTEGER NOT NULL CHECK (reserved_micros >= 0),
    remember_until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX purses_by_end ON purses (remember_until);

CREATE TABLE reservations (
    id     BLOB    PRIMARY KEY CHECK (length(id) = 16),
    turn   BLOB    NOT NULL CHECK (length(turn) = 16),
    -- The names of the purses, in order, one to a line.
    purses TEXT    NOT NULL,
    tokens INTEGER NOT NULL,
    micros INTEGER NOT NULL,
    due    INTEGER NOT NULL
) STRICT;

CREATE INDEX reservations_by_turn ON reservations (turn);
CREATE INDEX reservations_by_due ON reservations (due);
