-- Generated access keys, where nodes share a database: sealed under a key that is derived from the refresh secret, so that a
-- copy of this table holds none. With the embedded database they are files, and this stays empty.
CREATE TABLE access_keys (
    kid           TEXT   NOT NULL PRIMARY KEY,
    algorithm     TEXT   NOT NULL,
    sealed        BYTEA  NOT NULL,          -- nonce, AES-256-GCM ciphertext, tag
    sealed_under  TEXT   NOT NULL,          -- the name of the refresh key whose secret opens it
    made_at       BIGINT NOT NULL,
    signs_from    BIGINT NOT NULL           -- published before, so that every node knows it by then
);
