-- Ids are UUIDs as 16 bytes, digests are 32 bytes, times are microseconds since 1970 in UTC.

CREATE TABLE users (
    id             BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    email          TEXT    NOT NULL,
    email_key      TEXT    NOT NULL UNIQUE, -- the address as it is compared
    name           TEXT,
    password_hash  TEXT    NOT NULL,
    roles          TEXT    NOT NULL,        -- a JSON array of names
    email_verified INTEGER NOT NULL CHECK (email_verified IN (0, 1)),
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    last_login_at  INTEGER,
    disabled_at    INTEGER
) STRICT, WITHOUT ROWID;

-- One row a session, for ever: a refresh updates it and grows nothing. No index is on a column that a
-- refresh writes, and no foreign key is on user_id: a deleted user's sessions stay as tombstones until
-- every process has learnt that they are over.
CREATE TABLE sessions (
    id                BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id           BLOB    NOT NULL CHECK (length(user_id) = 16),
    generation        INTEGER NOT NULL CHECK (generation >= 0),
    branch            INTEGER NOT NULL CHECK (branch >= 0),
    token_hash        BLOB    NOT NULL CHECK (length(token_hash) = 32),
    previous_hash     BLOB    CHECK (length(previous_hash) = 32),
    salt              BLOB    NOT NULL CHECK (length(salt) = 16),
    key_id            TEXT    NOT NULL,
    rotated_at        INTEGER NOT NULL,
    branched_at       INTEGER NOT NULL,
    confirmed_at      INTEGER,
    access_expires_at INTEGER NOT NULL,
    idle_expires_at   INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    revoked_at        INTEGER,
    revoked_reason    TEXT,
    roles             TEXT    NOT NULL,     -- the user's, copied so that a refresh reads one row
    transport         TEXT    NOT NULL CHECK (transport IN ('body', 'cookie')),
    repeat_streak     INTEGER NOT NULL,     -- generations running that were answered to a second address
    streak_generation INTEGER NOT NULL,     -- the generation that counted last
    device_name       TEXT,
    user_agent        TEXT,
    ip_address        TEXT,
    created_at        INTEGER NOT NULL,
    last_used_at      INTEGER NOT NULL,
    CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX sessions_by_end ON sessions (expires_at);
