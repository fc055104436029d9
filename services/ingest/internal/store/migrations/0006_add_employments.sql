-- +goose Up

-- HR's own number of a human being: the person whom it was first said of, or who they turned out to be.
CREATE TABLE person_keys (
    source TEXT NOT NULL,
    key    TEXT NOT NULL,
    person TEXT NOT NULL,
    PRIMARY KEY (source, key)
);
CREATE INDEX person_keys_person ON person_keys (person);

-- Who turned out to be somebody else: kept as a name for them, without employments of their own.
ALTER TABLE people ADD COLUMN merged_into TEXT NOT NULL DEFAULT '';
CREATE INDEX people_merged ON people (merged_into) WHERE merged_into <> '';

-- People who look alike and whom an operator said to be two: person is the lesser id.
CREATE TABLE apart (
    person TEXT   NOT NULL,
    other  TEXT   NOT NULL,
    at     BIGINT NOT NULL,
    actor  TEXT   NOT NULL,
    PRIMARY KEY (person, other)
);
