-- +goose Up

-- A row holds the events that one transaction added, up to 64 of them: see pkg/packed. Its id is the greatest of theirs.
ALTER TABLE outbox RENAME COLUMN event TO events;
ALTER TABLE outbox ADD COLUMN lengths TEXT NOT NULL DEFAULT '';
UPDATE outbox SET lengths = '[' || length(events) || ']';

-- +tenure postgres
-- What leaves within moments, and is forgotten within seconds, is not worth the time of being compressed.
ALTER TABLE outbox ALTER COLUMN events SET STORAGE EXTERNAL;
ALTER TABLE outbox_sent ALTER COLUMN events SET STORAGE EXTERNAL;
-- +tenure end
