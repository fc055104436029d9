-- +goose Up

-- The longest unread first are looked at again. What is worked on is not in it: it costs a target one entry, when it is settled.
CREATE INDEX targets_observed ON targets (observed_at) WHERE state IN (1, 5);
