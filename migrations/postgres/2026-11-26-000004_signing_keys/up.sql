-- The keys that have signed tokens, and until when what they signed can be used: a start without one of them would sign
-- people out. Kept by the issuer of those tokens, which must still be accepted as well.
CREATE TABLE signing_keys (
    kid            TEXT   NOT NULL,
    purpose        TEXT   NOT NULL CHECK (purpose IN ('access', 'refresh')),
    issuer         TEXT   NOT NULL,         -- empty: from before this table
    algorithm      TEXT   NOT NULL,
    file           TEXT,                    -- the name of the file it was generated into
    first_used_at  BIGINT NOT NULL,
    last_used_at   BIGINT NOT NULL,
    needed_until   BIGINT NOT NULL,         -- the last token signed with it can be used until then
    PRIMARY KEY (kid, purpose, issuer)
);

INSERT INTO signing_keys
    SELECT key_id, 'refresh', '', 'HS256', NULL, min(created_at), max(last_used_at), max(idle_expires_at)
    FROM sessions WHERE revoked_at IS NULL GROUP BY key_id;
