-- One row, which is never read by a request: a probe of readiness changes it, since a database that is full or read-only
-- answers reads all the same; and the janitor keeps in it when it last believed the clock.
CREATE TABLE health (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    writes     BIGINT NOT NULL,
    trusted_at BIGINT NOT NULL  -- microseconds since 1970 in UTC; 0: never
) WITH (fillfactor = 10);

INSERT INTO health (id, writes, trusted_at) VALUES (1, 0, 0);
