ALTER TABLE users DROP COLUMN contested;
DROP TABLE mails;
DROP TABLE mail_tokens;
