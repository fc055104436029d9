-- +goose Up

-- One row for each person who has, or had, to do with this application: where it is between desired and observed.
-- It is the work queue, the lease and the link to the account in one, so that one update settles them together.
CREATE TABLE targets (
    person             TEXT   NOT NULL PRIMARY KEY,
    version            BIGINT NOT NULL,           -- of this row

    -- What there is to do.
    generation         BIGINT NOT NULL CHECK (generation > 0), -- the newest that was heard of
    lane               BIGINT NOT NULL CHECK (lane IN (1, 2)), -- 1 urgent, 2 normal
    state              BIGINT NOT NULL CHECK (state BETWEEN 1 AND 5), -- tenure.provision.v1.TargetState
    due_at             BIGINT NOT NULL,           -- when to look at it; 0: not before a new generation
    marked_at          BIGINT NOT NULL,           -- when that generation was heard of
    attempts           BIGINT NOT NULL CHECK (attempts >= 0),

    -- Who works on it. The epoch counts the claims.
    holder             TEXT   NOT NULL,
    epoch              BIGINT NOT NULL,
    lease_until        BIGINT NOT NULL,

    -- What was settled last.
    settled_generation BIGINT NOT NULL,
    decision           BIGINT NOT NULL,
    person_version     BIGINT NOT NULL,
    model_seq          BIGINT NOT NULL,

    -- What keeps it.
    problem            TEXT   NOT NULL,           -- Problem.code of the connector contract, empty: nothing
    reason             TEXT   NOT NULL,
    detail             TEXT   NOT NULL,           -- the application's words
    removal            BIGINT NOT NULL CHECK (removal IN (0, 1)),
    stuck_since        BIGINT NOT NULL,           -- 0: it is not stuck
    notes              BYTEA  NOT NULL,           -- list of texts
    quiet_until        BIGINT NOT NULL,           -- until then a call whose reply was lost may still have effect
    pending            TEXT   NOT NULL,           -- operation that the application accepted and has not finished

    -- What the application showed, and what it cannot show.
    account_id         TEXT   NOT NULL,           -- the link; empty: none
    made               BIGINT NOT NULL CHECK (made BETWEEN 0 AND 2), -- 1 created, 2 taken over by Tenure
    gave               BYTEA  NOT NULL,           -- list of entitlements that Tenure gave
    left_as_leaver     BIGINT NOT NULL CHECK (left_as_leaver IN (0, 1)), -- it was disabled for a leaver
    disabled_version   BIGINT NOT NULL,           -- person version for which it was disabled
    cut_generation     BIGINT NOT NULL,           -- generation for which sessions and credentials were cut
    unwanted_since     BIGINT NOT NULL,
    deleted            BIGINT NOT NULL CHECK (deleted IN (0, 1)), -- tombstone: Tenure deleted the account
    deleted_version    BIGINT NOT NULL,           -- for this person version
    create_tried       BIGINT NOT NULL,
    creating           BIGINT NOT NULL CHECK (creating IN (0, 1)),
    observed           BYTEA  NOT NULL,           -- tenure.connector.v1.Account, empty: none was found
    observed_at        BIGINT NOT NULL,           -- 0: never read

    CHECK (settled_generation <= generation),
    CHECK ((holder = '') = (lease_until = 0))
);
CREATE INDEX targets_due ON targets (lane, due_at) WHERE due_at > 0;

-- One row for each operation: the intent, committed before the first call, and what became of it.
-- An outcome without calls (nothing was to be done) is a row too, because it holds the nonce of its commitment.
CREATE TABLE journal (
    operation      TEXT   NOT NULL PRIMARY KEY,   -- UUIDv7: grows with time
    person         TEXT   NOT NULL,
    generation     BIGINT NOT NULL,
    decision       BIGINT NOT NULL,
    person_version BIGINT NOT NULL,
    model_seq      BIGINT NOT NULL,
    epoch          BIGINT NOT NULL,
    wanted         BIGINT NOT NULL,               -- tenure.event.v1.AccessState
    not_after      BIGINT NOT NULL,

    intent         BYTEA  NOT NULL,               -- tenure.connector.v1.ApplyRequest without secrets: the committed facts
    intent_nonce   BYTEA  NOT NULL,
    intent_event   TEXT   NOT NULL,               -- empty: no call was made
    correlation    TEXT   NOT NULL,
    intent_at      BIGINT NOT NULL,

    results        BYTEA  NOT NULL,               -- tenure.connector.v1.ApplyResponse: what the connector said
    state          BIGINT NOT NULL,               -- tenure.event.v1.OutcomeState; 0: no outcome yet
    observed       BYTEA  NOT NULL,               -- tenure.connector.v1.Account as read back: the committed facts
    outcome_nonce  BYTEA  NOT NULL,
    outcome_event  TEXT   NOT NULL,
    outcome_at     BIGINT NOT NULL,               -- 0: no outcome yet

    CHECK ((outcome_at = 0) = (outcome_event = ''))
);
CREATE INDEX journal_person ON journal (person, operation);
CREATE INDEX journal_open ON journal (person) WHERE outcome_at = 0;

-- What the targets were planned by last.
CREATE TABLE applied (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
