-- What was mailed to prove something: a link with a token, and mostly a code to be typed. Of both there is only what they are
-- compared with.
CREATE TABLE mail_tokens (
    id              BLOB   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id         BLOB   NOT NULL CHECK (length(user_id) = 16),
    purpose         TEXT   NOT NULL CHECK (purpose IN ('reset', 'known', 'verify', 'change', 'undo')),
    token_hash      BLOB   NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    email           TEXT   NOT NULL,        -- reset, verify, change: where it was sent; undo: what the account gets back
    email_key       TEXT   NOT NULL,        -- the same as it is compared
    code_tag        BLOB   CHECK (length(code_tag) = 32), -- HMAC under a key that is not in the database
    code_expires_at INTEGER NOT NULL,
    code_tries      INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX mail_tokens_by_user ON mail_tokens (user_id);
-- A newer one for the same takes its place.
CREATE UNIQUE INDEX mail_tokens_by_purpose ON mail_tokens (user_id, purpose) WHERE purpose <> 'undo';
CREATE INDEX mail_tokens_by_email ON mail_tokens (email_key);
CREATE INDEX mail_tokens_by_end ON mail_tokens (expires_at);

-- Mails that wait to be sent. The text is sealed under a key derived from the refresh key: it has tokens in it.
CREATE TABLE mails (
    id           BLOB   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    user_id      BLOB   CHECK (length(user_id) = 16),
    kind         TEXT   NOT NULL,
    recipient    TEXT   NOT NULL,
    sealed       BLOB   NOT NULL,           -- nonce, AES-256-GCM ciphertext, tag
    sealed_under TEXT   NOT NULL,           -- the name of the refresh key whose secret opens it
    created_at   INTEGER NOT NULL,
    due_at       INTEGER NOT NULL,           -- not before; while a node sends it: until its claim ends
    claim        BLOB   CHECK (length(claim) = 16), -- of the node that sends it
    attempts     INTEGER NOT NULL,
    last_error   TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX mails_by_due ON mails (due_at);
CREATE INDEX mails_by_user ON mails (user_id) WHERE user_id IS NOT NULL;

-- Whether the address was registered again before it was proven: then who proves it chooses the password.
ALTER TABLE users ADD COLUMN contested INTEGER NOT NULL DEFAULT false CHECK (contested IN (0, 1));
