ALTER TABLE sessions DROP COLUMN claims;
ALTER TABLE sessions DROP COLUMN mfa;
DROP TABLE recovery_codes;
ALTER TABLE users DROP COLUMN claims;
DROP INDEX users_by_totp_key;
ALTER TABLE users DROP COLUMN totp_step;
ALTER TABLE users DROP COLUMN totp_enabled_at;
ALTER TABLE users DROP COLUMN totp_sealed_under;
ALTER TABLE users DROP COLUMN totp_secret;
