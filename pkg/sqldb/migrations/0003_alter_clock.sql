-- the last time that it was set back: when that was mended, by the clock as it is since, and the time before; 0: never
ALTER TABLE clock ADD COLUMN mended_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clock ADD COLUMN mended_from BIGINT NOT NULL DEFAULT 0;
