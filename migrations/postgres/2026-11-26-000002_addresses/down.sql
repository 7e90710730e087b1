DROP INDEX attempts_by_user;
ALTER TABLE attempts DROP COLUMN ip_address;
ALTER TABLE attempts DROP COLUMN user_id;
ALTER TABLE attempts DROP COLUMN address_ends_at;
ALTER TABLE attempts DROP COLUMN in_address;
ALTER TABLE attempts DROP COLUMN account_ends_at;
ALTER TABLE attempts DROP COLUMN in_account;
DROP INDEX users_by_earlier_key;
ALTER TABLE users DROP COLUMN email_key_version;
