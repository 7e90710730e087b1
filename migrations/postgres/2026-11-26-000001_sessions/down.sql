DROP TABLE session_ends;
DROP INDEX sessions_ended_by_user;
DROP INDEX sessions_live_by_user;
CREATE INDEX sessions_by_user ON sessions (user_id);
ALTER TABLE sessions DROP COLUMN remember;
