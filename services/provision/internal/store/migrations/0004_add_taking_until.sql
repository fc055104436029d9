-- +goose Up

-- quiet_until is of calls that give. What takes away may come late as well, after something newer gave it again.
ALTER TABLE targets ADD COLUMN taking_until BIGINT NOT NULL DEFAULT 0;
