-- +goose Up
-- The head is the one row that changes: whoever moves it appends.
CREATE TABLE head (
    log  TEXT   PRIMARY KEY,
    size BIGINT NOT NULL,
    root BYTEA  NOT NULL
);

CREATE TABLE leaves (
    n           BIGINT PRIMARY KEY,
    origin      TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    recorded_at BIGINT NOT NULL,
    data        BYTEA  NOT NULL,
    UNIQUE (origin, seq)
);

-- Stored hashes of the tree, one row for each appended batch: those numbered first and up, 32 bytes each.
CREATE TABLE hashes (
    first BIGINT PRIMARY KEY,
    data  BYTEA  NOT NULL
);

CREATE TABLE checkpoints (
    size      BIGINT PRIMARY KEY,
    note      TEXT   NOT NULL,
    signed_at BIGINT NOT NULL
);

-- How far each origin's events are recorded without a gap.
CREATE TABLE origins (
    origin TEXT   PRIMARY KEY,
    seq    BIGINT NOT NULL
);

-- +tenure append-only leaves
-- +tenure append-only hashes
-- +tenure append-only checkpoints
