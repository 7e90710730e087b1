-- A client that lost its last answer comes back with the token before it, so the key of that one is still needed.
ALTER TABLE sessions ADD COLUMN previous_key_id TEXT;
