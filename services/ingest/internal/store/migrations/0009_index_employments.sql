-- +goose Up

-- Whether a person has other employments is asked of everybody whom a roster does not name.
CREATE INDEX employments_person ON employments (person);
