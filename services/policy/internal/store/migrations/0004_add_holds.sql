-- +goose Up

-- Whoever counts removals, and whoever changes holds, writes this one row first: replicas share the count.
CREATE TABLE brake (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    n  BIGINT NOT NULL
);
INSERT INTO brake (id, n) VALUES (1, 0);

-- Who lost access lately without corroboration, one row for each person.
CREATE TABLE removals (
    person     TEXT   NOT NULL PRIMARY KEY,
    removed_at BIGINT NOT NULL,              -- the last time, anywhere
    apps       TEXT   NOT NULL               -- in which and when last: app@micros app@micros
);
CREATE INDEX removals_at ON removals (removed_at);

-- What the brake keeps back. The person keeps what the last released decision gave, whose numbers stand in kept_*.
CREATE TABLE holds (
    person            TEXT   NOT NULL,
    application       TEXT   NOT NULL,       -- what a worker asked for there; empty: a decision, which is held whole
    hold              TEXT   NOT NULL,       -- names what is held for the same cause
    status            BIGINT NOT NULL,       -- 1 open, 2 released by two people, 3 rejected by two people
    digest            BYTEA  NOT NULL,       -- SHA-256 over what it would do
    effects           BYTEA  NOT NULL,       -- tenure.access.v1.HeldPerson
    release_id        TEXT   NOT NULL,       -- of who released it; empty: nobody did
    opened_at         BIGINT NOT NULL,
    kept_n            BIGINT NOT NULL,
    kept_version      BIGINT NOT NULL,
    kept_model_seq    BIGINT NOT NULL,
    kept_employment   BIGINT NOT NULL,
    kept_ended_at     BIGINT NOT NULL,
    kept_end_known_at BIGINT NOT NULL,
    PRIMARY KEY (person, application)
);
CREATE INDEX holds_hold ON holds (hold, person);

-- What one operator asked for and another one has to agree to, about exactly what both were shown.
CREATE TABLE hold_requests (
    hold         TEXT   NOT NULL PRIMARY KEY,
    verdict      BIGINT NOT NULL,            -- 2 release, 3 reject
    hash         BYTEA  NOT NULL,
    actor        TEXT   NOT NULL,
    requested_at BIGINT NOT NULL
);
