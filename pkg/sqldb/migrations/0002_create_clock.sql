-- the latest time that somebody is known to have gone by, one row: earlier ones mean that the clock was set back
CREATE TABLE clock (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    latest BIGINT NOT NULL
);
