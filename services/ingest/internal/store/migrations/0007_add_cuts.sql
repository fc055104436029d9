-- +goose Up

-- Orders that a person has nothing, each with its end: one row each, kept for ever.
CREATE TABLE cuts (
    person         TEXT   NOT NULL,
    version        BIGINT NOT NULL CHECK (version > 0), -- that it raised the person to
    at             BIGINT NOT NULL,
    actor          TEXT   NOT NULL,
    confirmed_by   TEXT   NOT NULL,         -- the second operator; empty: one operator's order
    reason         TEXT   NOT NULL,
    lifted_version BIGINT NOT NULL CHECK (lifted_version = 0 OR lifted_version > version), -- 0: it stands
    lifted_at      BIGINT NOT NULL,
    lifted_by      TEXT   NOT NULL,
    lifted_reason  TEXT   NOT NULL,
    PRIMARY KEY (person, version)
);
CREATE UNIQUE INDEX cuts_standing ON cuts (person) WHERE lifted_version = 0;
CREATE INDEX cuts_at ON cuts (at);

-- Orders above the limit, which wait for a second operator.
CREATE TABLE cut_requests (
    person TEXT   NOT NULL PRIMARY KEY,
    at     BIGINT NOT NULL,
    actor  TEXT   NOT NULL,
    reason TEXT   NOT NULL
);

-- One row, which whoever orders or ends a cut takes first: the limit is counted by one at a time.
CREATE TABLE cut_turns (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    n  BIGINT NOT NULL
);
