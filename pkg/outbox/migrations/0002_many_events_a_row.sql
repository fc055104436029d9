-- +goose Up

-- Events that are true and not yet numbered: those that one transaction added, packed (pkg/packed), up to 64 of them in a
-- row, whose id is the greatest of theirs. Rows leave in order of lane and id; ids are UUIDv7.
ALTER TABLE outbox RENAME TO outbox_before;
CREATE TABLE outbox (
    lane    BIGINT NOT NULL,
    id      TEXT   NOT NULL,
    lengths TEXT   NOT NULL,
    events  BYTEA  NOT NULL,
    PRIMARY KEY (lane, id)
);
INSERT INTO outbox (lane, id, lengths, events)
SELECT lane, id, '[' || CAST(LENGTH(event) AS TEXT) || ']', event FROM outbox_before;
DROP TABLE outbox_before;

-- +tenure postgres
-- What leaves within moments, and is forgotten within seconds, is not worth the time of being compressed.
ALTER TABLE outbox ALTER COLUMN events SET STORAGE EXTERNAL;
ALTER TABLE outbox_sent ALTER COLUMN events SET STORAGE EXTERNAL;
-- +tenure end
