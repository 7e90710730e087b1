-- One row, which is never read by a request: a probe of readiness changes it, since a database that is full or read-only
-- answers reads all the same; and the janitor keeps in it when it last believed the clock.
CREATE TABLE health (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    writes     INTEGER NOT NULL,
    trusted_at INTEGER NOT NULL  -- microseconds since 1970 in UTC; 0: never
) STRICT, WITHOUT ROWID;

INSERT INTO health (id, writes, trusted_at) VALUES (1, 0, 0);
