-- A second factor (RFC 6238). Without totp_enabled_at it waits to be confirmed.
ALTER TABLE users ADD COLUMN totp_secret BYTEA;                 -- nonce, AES-256-GCM ciphertext, tag
ALTER TABLE users ADD COLUMN totp_sealed_under TEXT;            -- the name of the refresh key whose secret opens it
ALTER TABLE users ADD COLUMN totp_enabled_at BIGINT;
ALTER TABLE users ADD COLUMN totp_step BIGINT;                  -- of the code that was accepted last
CREATE INDEX users_by_totp_key ON users (totp_sealed_under) WHERE totp_enabled_at IS NOT NULL;

-- An object, set by an operator, whose members stand in access tokens.
ALTER TABLE users ADD COLUMN claims TEXT;

-- Each is used once, and removed then.
CREATE TABLE recovery_codes (
    user_id BYTEA NOT NULL CHECK (length(user_id) = 16),
    hash    BYTEA NOT NULL CHECK (length(hash) = 32),           -- SHA-256
    PRIMARY KEY (user_id, hash)
);

-- What a refresh needs to know of them.
ALTER TABLE sessions ADD COLUMN mfa BOOLEAN NOT NULL DEFAULT false; -- whether it began with a second factor
ALTER TABLE sessions ADD COLUMN claims TEXT;                    -- a copy of the user's
