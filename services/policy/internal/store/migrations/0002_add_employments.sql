-- +goose Up

-- Where the person stands between employed and not: the worker tells a rehire from a cancelled termination by it, and
-- counts how long access outlived its end.
ALTER TABLE decisions ADD COLUMN employment BIGINT NOT NULL DEFAULT 0;   -- runs of employment, counted from 1; 0: not counted yet
ALTER TABLE decisions ADD COLUMN ended_at BIGINT NOT NULL DEFAULT 0;     -- 0: employed
ALTER TABLE decisions ADD COLUMN end_known_at BIGINT NOT NULL DEFAULT 0; -- when the word that ended it was committed

-- None of it is known of those decided about before: they are decided about once more, and nothing else changes.
UPDATE decisions SET accounts = 0;
