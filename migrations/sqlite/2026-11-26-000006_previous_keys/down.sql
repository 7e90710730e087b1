ALTER TABLE sessions DROP COLUMN previous_key_id;
