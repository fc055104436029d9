-- +goose Up

-- Events that are true and not yet numbered. Rows leave in order of lane and id; ids are UUIDv7.
CREATE TABLE outbox (
    lane  BIGINT NOT NULL,
    id    TEXT NOT NULL,
    event BYTEA NOT NULL,
    PRIMARY KEY (lane, id)
);

-- The one row of the database's origin: the number the next event gets, and up to which one everything has been
-- published into the stream named by epoch, the last of it made at published_at.
CREATE TABLE outbox_origin (
    origin       TEXT NOT NULL PRIMARY KEY,
    next_seq     BIGINT NOT NULL,
    epoch        TEXT NOT NULL,
    published    BIGINT NOT NULL,
    published_at BIGINT NOT NULL
);

-- Chunks of numbered events, which never change, kept until audit has recorded them.
-- events is an encoded tenure.event.v1.ReadResponse.
CREATE TABLE outbox_sent (
    first_seq  BIGINT NOT NULL PRIMARY KEY,
    last_seq   BIGINT NOT NULL,
    lane       BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    events     BYTEA NOT NULL
);

-- Events that a consumer of this service could not handle and set aside. event is an encoded tenure.event.v1.Event.
CREATE TABLE outbox_parked (
    consumer  TEXT NOT NULL,
    event_id  TEXT NOT NULL,
    event     BYTEA NOT NULL,
    error     TEXT NOT NULL,
    parked_at BIGINT NOT NULL,
    PRIMARY KEY (consumer, event_id)
);
