-- How often something has been tried lately. A key is a digest of what is counted, so that no address of
-- anybody who has no account here is kept.
CREATE TABLE attempts (
    key            BYTEA  NOT NULL PRIMARY KEY CHECK (length(key) = 16),
    count          BIGINT NOT NULL CHECK (count >= 0),
    window_ends_at BIGINT NOT NULL
);

CREATE INDEX attempts_by_end ON attempts (window_ends_at);
