-- +goose Up

-- One row for each thing a source or an operator sent, kept for ever: it is what makes a repeat a repeat. Only
-- body and headers go, when the source's raw_retention has passed.
CREATE TABLE deliveries (
    id          TEXT   NOT NULL PRIMARY KEY,
    source      TEXT   NOT NULL,
    key         TEXT   NOT NULL,          -- the sender's identity of it, e.g. webhook-id
    variant     TEXT   NOT NULL,          -- empty for the first body under this key, else the body's hash in hex
    body_sha256 BYTEA  NOT NULL,
    body        BYTEA,
    headers     BYTEA,
    source_time BIGINT NOT NULL,          -- when it was sent or made, by the sender's word
    received_at BIGINT NOT NULL,
    actor       TEXT   NOT NULL,
    held        TEXT   NOT NULL,          -- why the whole of it is kept for review, else empty
    items       BIGINT NOT NULL CHECK (items >= 0),
    items_held  BIGINT NOT NULL CHECK (items_held >= 0 AND items_held <= items),
    UNIQUE (source, key, variant)
);
CREATE INDEX deliveries_held ON deliveries (id) WHERE held <> '' OR items_held > 0;
CREATE INDEX deliveries_raw ON deliveries (source, received_at) WHERE body IS NOT NULL;

-- The items that are kept for review. An item that was understood is a row of facts.
CREATE TABLE items (
    delivery    TEXT   NOT NULL,
    n           BIGINT NOT NULL,
    external_id TEXT   NOT NULL,
    held        TEXT   NOT NULL,
    PRIMARY KEY (delivery, n)
);

-- (source, external_id) always means the same employment.
CREATE TABLE employments (
    source      TEXT   NOT NULL,
    external_id TEXT   NOT NULL,
    person      TEXT   NOT NULL,
    PRIMARY KEY (source, external_id)
);
CREATE INDEX employments_external_id ON employments (external_id);

CREATE TABLE people (
    id         TEXT   NOT NULL PRIMARY KEY,
    version    BIGINT NOT NULL CHECK (version > 0),
    user_name  TEXT   NOT NULL,           -- empty until one is allocated
    status     BIGINT NOT NULL,
    email      TEXT   NOT NULL,           -- in lower case, to be found by
    department TEXT   NOT NULL,
    decided_at BIGINT NOT NULL,           -- the instant that state is about
    next_due   BIGINT NOT NULL,           -- when time alone will change something; 0: never
    state      BYTEA  NOT NULL            -- tenure.people.v1.Person without what is a column
);
CREATE INDEX people_user_name ON people (user_name, id);
CREATE INDEX people_email ON people (email) WHERE email <> '';
CREATE INDEX people_due ON people (next_due) WHERE next_due > 0;

-- Names once given. A row is never deleted and never given to somebody else.
CREATE TABLE user_names (
    name   TEXT   NOT NULL PRIMARY KEY,
    person TEXT   NOT NULL,
    at     BIGINT NOT NULL
);
CREATE INDEX user_names_person ON user_names (person);

-- What was said about an employment: one row for each item that was understood, never changed.
CREATE TABLE facts (
    person            TEXT   NOT NULL,
    delivery          TEXT   NOT NULL,
    item              BIGINT NOT NULL,
    source            TEXT   NOT NULL,    -- whose word it is
    key               TEXT   NOT NULL,    -- the delivery's; decides between facts of one instant and source time
    employment_source TEXT   NOT NULL,    -- what it is about, with external_id
    external_id       TEXT   NOT NULL,
    effective_at      BIGINT NOT NULL,
    source_time       BIGINT NOT NULL,
    start_at          BIGINT NOT NULL,    -- 0: none
    end_at            BIGINT NOT NULL,    -- 0: none
    known_at          BIGINT NOT NULL,
    actor             TEXT   NOT NULL,
    record            BYTEA  NOT NULL,    -- tenure.people.v1.Record
    PRIMARY KEY (person, delivery, item)
);
CREATE UNIQUE INDEX facts_delivery ON facts (delivery, item);

-- What became of it: one row a lifecycle event, with the values that the event on the bus leaves out. facts and
-- nonce are what the event's commitment is over.
CREATE TABLE happenings (
    person   TEXT   NOT NULL,
    event_id TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    nonce    BYTEA  NOT NULL,
    facts    BYTEA  NOT NULL,
    PRIMARY KEY (person, event_id)
);
