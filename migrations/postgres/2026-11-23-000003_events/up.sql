-- What has happened to accounts, for their users and operators to read. Rows go after a while.
CREATE TABLE events (
    id          BYTEA  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id     BYTEA  NOT NULL CHECK (length(user_id) = 16),
    session_id  BYTEA  CHECK (length(session_id) = 16),
    kind        TEXT   NOT NULL,
    detail      TEXT,
    at          BIGINT NOT NULL,
    ip_address  TEXT,
    device_name TEXT
);

CREATE INDEX events_by_user ON events (user_id, at, id);
CREATE INDEX events_by_time ON events (at);
