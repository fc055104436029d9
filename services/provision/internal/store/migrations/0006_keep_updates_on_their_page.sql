-- +goose Up

-- A person has few operations: the open ones are found among them. Without this index an outcome changes nothing that is indexed.
DROP INDEX journal_open;

-- +tenure postgres
-- Room beside each row for its next versions: a claim, and an outcome, then touch no index.
ALTER TABLE journal SET (fillfactor = 50);
ALTER TABLE targets SET (fillfactor = 70);
-- +tenure end
