-- +goose Up

-- Who was given something privileged lately, one row for each person.
CREATE TABLE elevations (
    person      TEXT   NOT NULL PRIMARY KEY,
    elevated_at BIGINT NOT NULL
);
CREATE INDEX elevations_at ON elevations (elevated_at);
