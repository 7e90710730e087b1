-- How email_key was made: 1 as addresses are compared now, 0 as versions before compared them. Of those that may differ
-- it is made anew when the statements here are done, which takes more than SQL; where another account has the new one
-- already, it stays as it is.
ALTER TABLE users ADD COLUMN email_key_version INTEGER NOT NULL DEFAULT 1;
UPDATE users SET email_key_version = 0
  WHERE length(CAST(email AS BLOB)) <> length(email) OR email_key LIKE '%xn--%';
CREATE INDEX users_by_earlier_key ON users (id) WHERE email_key_version = 0;

-- Of one account from one address: what it has added to the count of the account, and to that of the address, in the
-- windows that end then. A success gives back just that.
ALTER TABLE attempts ADD COLUMN in_account INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN account_ends_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN in_address INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN address_ends_at INTEGER NOT NULL DEFAULT 0;
-- At an account that exists: which, and from where. Both go with the row.
ALTER TABLE attempts ADD COLUMN user_id BLOB CHECK (length(user_id) = 16);
ALTER TABLE attempts ADD COLUMN ip_address TEXT;
CREATE INDEX attempts_by_user ON attempts (user_id) WHERE user_id IS NOT NULL;
