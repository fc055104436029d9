-- who does a thing that only one process may do; until is microseconds UTC by the database's clock, 0 when released
CREATE TABLE leases (
    name   TEXT   PRIMARY KEY,
    holder TEXT   NOT NULL,
    epoch  BIGINT NOT NULL,
    until  BIGINT NOT NULL
);
