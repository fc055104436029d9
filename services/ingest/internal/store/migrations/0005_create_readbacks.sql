-- +goose Up

-- Employees whose record changed by their source's word: one row each. What is known of them is what the source's API
-- answers; however often it was said, reading once after the last time is enough.
CREATE TABLE readbacks (
    source        TEXT   NOT NULL,
    external_id   TEXT   NOT NULL,
    wanted        BIGINT NOT NULL CHECK (wanted > 0),   -- how often it was said
    done          BIGINT NOT NULL CHECK (done >= 0 AND done <= wanted), -- how much of that the API was read after
    notice        TEXT   NOT NULL,          -- the delivery that said it last
    noticed_at    BIGINT NOT NULL,          -- when it was said first of what is not read yet; 0: all is
    due_at        BIGINT NOT NULL,          -- when to read; 0: not before it is said again
    attempts      BIGINT NOT NULL,          -- reads in a row that brought nothing new
    claim         TEXT   NOT NULL,          -- who is reading, empty: nobody
    claimed_until BIGINT NOT NULL,
    read_at       BIGINT NOT NULL,          -- the source time of the last answer; 0: none
    seen          BYTEA,                    -- SHA-256 of the last answer that was understood
    problem       TEXT   NOT NULL,          -- why it could not be read, the last time
    held_by       TEXT   NOT NULL,          -- the delivery that counts it as held; empty: none
    PRIMARY KEY (source, external_id)
);
CREATE INDEX readbacks_due ON readbacks (source, due_at) WHERE due_at > 0;
CREATE INDEX readbacks_open ON readbacks (source, noticed_at) WHERE noticed_at > 0;

-- Which employees a delivery named; wanted is what theirs was then.
CREATE TABLE readback_items (
    delivery    TEXT   NOT NULL,
    n           BIGINT NOT NULL,
    source      TEXT   NOT NULL,
    external_id TEXT   NOT NULL,
    wanted      BIGINT NOT NULL,
    PRIMARY KEY (delivery, n)
);
