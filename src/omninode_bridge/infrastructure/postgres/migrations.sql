-- name: bound_waits
-- For the transaction: a migration rather fails than makes everyone wait behind the lock that it
-- waits for itself.
SET LOCAL lock_timeout = '30s';

-- name: lock
-- One migrator at a time in a database. The key is "omninode" read as a number: eight bytes of
-- ASCII, the highest first. It ends with the transaction, so it also holds behind a pooler that
-- lends a session for no longer than that.
SELECT pg_advisory_xact_lock(8029195109774877797);

-- name: make_version_table
-- Alembic's own table, as Alembic makes it: either may come first.
CREATE TABLE IF NOT EXISTS alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- name: read_version
-- One row; none in a database that was brought back to nothing.
SELECT version_num FROM alembic_version;

-- name: forget_version
-- Under the lock, before a new mark.
DELETE FROM alembic_version;

-- name: mark_version
-- $1 revision TEXT. Under the lock, in the transaction of the file it marks.
INSERT INTO alembic_version (version_num) VALUES ($1);

-- name: tables
-- Every table with its columns; partitions are part of their parent. The names are quoted here, so
-- nobody else has to.
SELECT c.oid, c.relname::TEXT AS name, array_agg(a.attname::TEXT) AS columns,
       format('LOCK TABLE %I.%I IN ACCESS EXCLUSIVE MODE', n.nspname, c.relname) AS lock_it,
       format('SELECT count(*) FROM %I.%I', n.nspname, c.relname) AS count_it
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped
GROUP BY c.oid, c.relname, n.nspname
ORDER BY c.relname;
