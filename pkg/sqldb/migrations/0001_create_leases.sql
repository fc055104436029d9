-- +goose Up
CREATE TABLE leases (
    name      TEXT   PRIMARY KEY,
    holder    TEXT   NOT NULL,
    epoch     BIGINT NOT NULL,
    until     BIGINT NOT NULL
);
