-- +goose Up

-- Where people stand with cuts, by ingest's word: one row for each who was ever cut. Whoever is has nothing here, whatever
-- policy wants.
CREATE TABLE cuts (
    person         TEXT   NOT NULL PRIMARY KEY,
    person_version BIGINT NOT NULL CHECK (person_version > 0), -- that the newest cut or lift raised the person to
    cut            BIGINT NOT NULL CHECK (cut IN (0, 1)),      -- 0: lifted
    at             BIGINT NOT NULL,
    event          TEXT   NOT NULL,           -- that told of it; empty: found by comparing
    correlation    TEXT   NOT NULL
);

-- The key that ingest signs cuts and lifts with, for when it does not answer: one row.
CREATE TABLE cut_key (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    public_key BYTEA  NOT NULL
);
