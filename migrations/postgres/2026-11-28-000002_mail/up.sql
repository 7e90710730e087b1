-- What was mailed to prove something: a link with a token, and mostly a code to be typed. Of both there is only what they are
-- compared with.
CREATE TABLE mail_tokens (
    id              BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id         BYTEA   NOT NULL CHECK (length(user_id) = 16),
    purpose         TEXT   NOT NULL CHECK (purpose IN ('reset', 'known', 'verify', 'change', 'undo')),
    token_hash      BYTEA   NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    email           TEXT   NOT NULL,        -- reset, verify, change: where it was sent; undo: what the account gets back
    email_key       TEXT   NOT NULL,        -- the same as it is compared
    code_tag        BYTEA   CHECK (length(code_tag) = 32), -- HMAC under a key that is not in the database
    code_expires_at BIGINT NOT NULL,
    code_tries      BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL
);

CREATE INDEX mail_tokens_by_user ON mail_tokens (user_id);
-- A newer one for the same takes its place.
CREATE UNIQUE INDEX mail_tokens_by_purpose ON mail_tokens (user_id, purpose) WHERE purpose <> 'undo';
CREATE INDEX mail_tokens_by_email ON mail_tokens (email_key);
CREATE INDEX mail_tokens_by_end ON mail_tokens (expires_at);

-- Mails that wait to be sent. The text is sealed under a key derived from the refresh key: it has tokens in it.
CREATE TABLE mails (
    id           BYTEA   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id      BYTEA   CHECK (length(user_id) = 16),
    kind         TEXT   NOT NULL,
    recipient    TEXT   NOT NULL,
    sealed       BYTEA   NOT NULL,           -- nonce, AES-256-GCM ciphertext, tag
    sealed_under TEXT   NOT NULL,           -- the name of the refresh key whose secret opens it
    created_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,           -- not before; while a node sends it: until its claim ends
    claim        BYTEA   CHECK (length(claim) = 16), -- of the node that sends it
    attempts     BIGINT NOT NULL,
    last_error   TEXT
);

CREATE INDEX mails_by_due ON mails (due_at);
CREATE INDEX mails_by_user ON mails (user_id) WHERE user_id IS NOT NULL;

-- Whether the address was registered again before it was proven: then who proves it chooses the password.
ALTER TABLE users ADD COLUMN contested BOOLEAN NOT NULL DEFAULT FALSE;
