-- +goose Up

-- Full lists of a source's people. Their records stand in the bodies of the deliveries that are their parts, and are
-- taken in only after the whole was judged.
CREATE TABLE rosters (
    source      TEXT   NOT NULL,
    id          TEXT   NOT NULL,          -- the source's identity of it
    version     BIGINT NOT NULL,          -- raised by whoever decides about it
    parts       BIGINT NOT NULL CHECK (parts > 0),
    total       BIGINT NOT NULL CHECK (total >= 0), -- records, by the source's word
    parts_in    BIGINT NOT NULL CHECK (parts_in >= 0 AND parts_in <= parts),
    records     BIGINT NOT NULL,          -- that came
    made_at     BIGINT NOT NULL,          -- of the oldest part, by the source's word
    received_at BIGINT NOT NULL,          -- of the newest part
    delivery    TEXT   NOT NULL,          -- the newest part
    state       TEXT   NOT NULL CHECK (state IN ('receiving', 'whole', 'held', 'taking', 'taken', 'superseded')),
    judged_at   BIGINT NOT NULL,          -- 0: not
    held        TEXT   NOT NULL,          -- the clauses that it breaks, else empty
    accepted_by TEXT   NOT NULL,          -- who took it in all the same, else empty
    understood  BIGINT NOT NULL,          -- records, when it was judged
    parts_taken BIGINT NOT NULL CHECK (parts_taken >= 0 AND parts_taken <= parts),
    changed     BIGINT NOT NULL,          -- records that became facts
    absent      BIGINT NOT NULL,          -- employed people whom it leaves out
    taken_at    BIGINT NOT NULL,          -- 0: not, or not wholly
    PRIMARY KEY (source, id)
);
CREATE INDEX rosters_open ON rosters (made_at) WHERE state IN ('whole', 'taking');
CREATE INDEX rosters_newest ON rosters (source, received_at);

CREATE TABLE roster_parts (
    source   TEXT   NOT NULL,
    roster   TEXT   NOT NULL,
    part     BIGINT NOT NULL,
    delivery TEXT   NOT NULL,
    records  BYTEA  NOT NULL,             -- SHA-256: the same part may come in another delivery
    PRIMARY KEY (source, roster, part)
);
CREATE UNIQUE INDEX roster_parts_delivery ON roster_parts (delivery);

-- Who is on a roster, from when it is judged until a later one is taken.
CREATE TABLE roster_people (
    source      TEXT NOT NULL,
    roster      TEXT NOT NULL,
    external_id TEXT NOT NULL,
    PRIMARY KEY (source, roster, external_id)
);

-- Whom the last roster that was taken left out although they were employed. It is a finding, and no leave.
CREATE TABLE absences (
    source      TEXT   NOT NULL,
    external_id TEXT   NOT NULL,
    roster      TEXT   NOT NULL,          -- the last one that left them out
    made_at     BIGINT NOT NULL,          -- of it
    since       BIGINT NOT NULL,          -- when the first one that did was made
    PRIMARY KEY (source, external_id)
);
