-- +goose Up

-- How long access outlived its end, and for which run of employment the account was used last.
ALTER TABLE targets ADD COLUMN run BIGINT NOT NULL DEFAULT 0;          -- 0: not known
ALTER TABLE targets ADD COLUMN ended_at BIGINT NOT NULL DEFAULT 0;     -- when access had to end; 0: the person has not left
ALTER TABLE targets ADD COLUMN end_known_at BIGINT NOT NULL DEFAULT 0; -- when that was known; may be before it
ALTER TABLE targets ADD COLUMN cut_off_at BIGINT NOT NULL DEFAULT 0;   -- when the application was first seen without it; 0: not yet
