-- Ids are UUIDs as 16 bytes, digests are 32 bytes, times are microseconds since 1970 in UTC.

CREATE TABLE users (
    id             BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    email          TEXT    NOT NULL,
    email_key      TEXT    NOT NULL UNIQUE, -- the address as it is compared
    name           TEXT,
    password_hash  TEXT    NOT NULL,
    roles          TEXT    NOT NULL,        -- a JSON array of names
    email_verified BOOLEAN NOT NULL,
    created_at     BIGINT  NOT NULL,
    updated_at     BIGINT  NOT NULL,
    last_login_at  BIGINT,
    disabled_at    BIGINT
) WITH (fillfactor = 80);

-- One row a session, for ever: a refresh updates it and grows nothing. No index is on a column that a
-- refresh writes, and half of each page is left free, so that a refresh finds room beside the row it replaces
-- (a HOT update). No foreign key is on user_id: a deleted user's sessions stay as tombstones until every
-- process has learnt that they are over.
CREATE TABLE sessions (
    id                BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id           BYTEA   NOT NULL CHECK (length(user_id) = 16),
    generation        BIGINT  NOT NULL CHECK (generation >= 0),
    branch            BIGINT  NOT NULL CHECK (branch >= 0),
    token_hash        BYTEA   NOT NULL CHECK (length(token_hash) = 32),
    previous_hash     BYTEA   CHECK (length(previous_hash) = 32),
    salt              BYTEA   NOT NULL CHECK (length(salt) = 16),
    key_id            TEXT    NOT NULL,
    rotated_at        BIGINT  NOT NULL,
    branched_at       BIGINT  NOT NULL,
    confirmed_at      BIGINT,
    access_expires_at BIGINT  NOT NULL,
    idle_expires_at   BIGINT  NOT NULL,
    expires_at        BIGINT  NOT NULL,
    revoked_at        BIGINT,
    revoked_reason    TEXT,
    roles             TEXT    NOT NULL,     -- the user's, copied so that a refresh reads one row
    transport         TEXT    NOT NULL CHECK (transport IN ('body', 'cookie')),
    repeat_streak     BIGINT  NOT NULL,     -- generations running that were answered to a second address
    streak_generation BIGINT  NOT NULL,     -- the generation that counted last
    device_name       TEXT,
    user_agent        TEXT,
    ip_address        TEXT,
    created_at        BIGINT  NOT NULL,
    last_used_at      BIGINT  NOT NULL,
    CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
) WITH (fillfactor = 50);

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX sessions_by_end ON sessions (expires_at);
