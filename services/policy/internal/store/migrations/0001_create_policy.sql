-- +goose Up

-- Every role model that ever took effect. seq is gap-free from 1; the greatest is the one that holds.
CREATE TABLE models (
    seq            BIGINT NOT NULL PRIMARY KEY CHECK (seq > 0),
    sha256         BYTEA  NOT NULL,
    files          BYTEA  NOT NULL,          -- tenure.access.v1.ShowModelResponse with files only
    applied_by     TEXT   NOT NULL,
    applied_at     BIGINT NOT NULL,
    event_id       TEXT   NOT NULL,          -- of its ModelApplied
    correlation_id TEXT   NOT NULL
);

-- One row for each person guards all of that person's access: a decision is saved only when nobody decided since it
-- was begun (n), and never from an older version of the person or by an older model.
CREATE TABLE decisions (
    person         TEXT   NOT NULL PRIMARY KEY,
    n              BIGINT NOT NULL CHECK (n > 0),
    person_version BIGINT NOT NULL,
    model_seq      BIGINT NOT NULL,
    accounts       BIGINT NOT NULL,          -- identifies the applications and their account attributes decided by
    withheld_at    BIGINT NOT NULL,          -- since when grants are kept back because audit lags; 0: none are
    decided_at     BIGINT NOT NULL,
    errors         BYTEA  NOT NULL           -- tenure.access.v1.ShowAccessResponse with errors only; empty: none
);
CREATE INDEX decisions_withheld ON decisions (person) WHERE withheld_at > 0;

-- What a person should have in one application. Kept when that is nothing, so that generation only grows.
CREATE TABLE desired (
    person         TEXT   NOT NULL,
    application    TEXT   NOT NULL,
    generation     BIGINT NOT NULL CHECK (generation > 0),
    state          BIGINT NOT NULL,
    lane           BIGINT NOT NULL,
    release_id     TEXT   NOT NULL,          -- permission for the destructive steps of this generation
    event_id       TEXT   NOT NULL,          -- of the Access event that announced it
    correlation_id TEXT   NOT NULL,
    decided_at     BIGINT NOT NULL,
    since          BIGINT NOT NULL,          -- when the fact that led to it was committed; 0: not known
    access         BYTEA  NOT NULL,          -- tenure.access.v1.DesiredWithReasons: entitlements, account, reasons
    PRIMARY KEY (person, application)
);
CREATE INDEX desired_application ON desired (application, person);

-- The decisions that changed something, with all that the changed applications' Access events commit to: the
-- commitment of one is over its facts and a nonce made of this row's and the application.
CREATE TABLE history (
    person         TEXT   NOT NULL,
    n              BIGINT NOT NULL,
    person_version BIGINT NOT NULL,
    model_seq      BIGINT NOT NULL,
    trigger_id     TEXT   NOT NULL,          -- the event that led to it; empty: repair
    decided_at     BIGINT NOT NULL,
    nonce          BYTEA  NOT NULL,
    changes        BYTEA  NOT NULL,          -- tenure.access.v1.ShowAccessResponse: the changed applications
    PRIMARY KEY (person, n)
);
