-- +goose Up

-- The longest unread first are looked at again.
CREATE INDEX targets_observed ON targets (observed_at);
