-- +goose Up

-- Whoever appends writes the head first. A process of the release before finishes what it began, which is read here, and
-- begins nothing until its table is gone.
UPDATE head SET size = size;

-- The leaves, one row for each appended batch: those numbered first and up, packed (pkg/packed). A row of its own for each
-- leaf was a sixth of all rows that Tenure writes.
CREATE TABLE batches (
    first       BIGINT PRIMARY KEY,
    recorded_at BIGINT NOT NULL,
    lengths     TEXT   NOT NULL,
    data        BYTEA  NOT NULL
);
-- +tenure append-only batches

INSERT INTO batches (first, recorded_at, lengths, data)
SELECT n, recorded_at, '[' || CAST(LENGTH(data) AS TEXT) || ']', data FROM leaves ORDER BY n;

-- What is recorded of an origin beyond a hole, as runs of numbers, from first to last: [[5,9],[12,12]].
ALTER TABLE origins ADD COLUMN later TEXT NOT NULL DEFAULT '[]';
ALTER TABLE origins ADD COLUMN since BIGINT NOT NULL DEFAULT 0; -- when a hole was noticed; 0: there is none

UPDATE origins SET since = COALESCE((SELECT MIN(l.recorded_at) FROM leaves l WHERE l.origin = origins.origin AND l.seq > origins.seq), 0);

-- +tenure sqlite
UPDATE origins SET later = '[' || (
    SELECT GROUP_CONCAT('[' || l.seq || ',' || l.seq || ']' ORDER BY l.seq) FROM leaves l WHERE l.origin = origins.origin AND l.seq > origins.seq
) || ']' WHERE since > 0;
-- +tenure end
-- +tenure postgres
UPDATE origins SET later = '[' || (
    SELECT STRING_AGG('[' || l.seq || ',' || l.seq || ']', ',' ORDER BY l.seq) FROM leaves l WHERE l.origin = origins.origin AND l.seq > origins.seq
) || ']' WHERE since > 0;
-- +tenure end

DROP TABLE leaves;
