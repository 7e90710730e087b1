-- Whether the session is to be remembered beyond the browser's own: false has a shorter idle time.
ALTER TABLE sessions ADD COLUMN remember BOOLEAN NOT NULL DEFAULT true;

-- A row is in one of the two, and in neither on a column that a refresh writes. A user's live sessions are found in
-- the order of their ids, a few at a time, however many have ended before.
DROP INDEX sessions_by_user;
CREATE INDEX sessions_live_by_user ON sessions (user_id, id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_ended_by_user ON sessions (user_id, id) WHERE revoked_at IS NOT NULL;

-- More sessions of a user than one transaction ends: all of them up to last_session are over as soon as this row is
-- committed, and the row goes when each of them says so itself. Almost always empty.
CREATE TABLE session_ends (
    id           BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id      BYTEA   NOT NULL CHECK (length(user_id) = 16),
    last_session BYTEA   NOT NULL CHECK (length(last_session) = 16),
    ended_at     BIGINT  NOT NULL,
    kept_session BYTEA   CHECK (length(kept_session) = 16), -- the one that goes on
    reason       TEXT    NOT NULL,
    ip_address   TEXT,                                      -- of the request that ended them
    erase        BOOLEAN NOT NULL                           -- the user is gone: nothing personal stays
);

CREATE INDEX session_ends_by_user ON session_ends (user_id);
