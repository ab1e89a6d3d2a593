-- name: take_turn
-- For the transaction: of all rebuilds, only this one makes, fills or swaps a generation meanwhile.
SELECT pg_advisory_xact_lock(hashtext('omninode_bridge.rebuild'));

-- name: drop_generation
-- What an interrupted rebuild left, or one that is still under way: it will find its own gone.
DROP TABLE IF EXISTS workflow_projection_next;

-- name: make_generation
-- The next generation, beside the one that is read.
CREATE TABLE workflow_projection_next (LIKE workflow_projection INCLUDING ALL)
    WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- name: made_generation
-- The table that was just made: its name may come to mean another rebuild's, its OID does not.
SELECT 'workflow_projection_next'::regclass::OID;

-- name: is_next_generation
-- $1 OID. Whether that table is still the next generation: not dropped, not swapped in. Asked after
-- `take_turn`, by a statement of its own and so with a new snapshot, it stays true until we end.
SELECT EXISTS (SELECT FROM pg_class WHERE oid = $1 AND relname = 'workflow_projection_next');

-- name: watermarks
-- How far the projection that is read has come: the next generation goes as far, and no further.
SELECT partition_id, "offset" FROM projection_watermarks
WHERE partition_id LIKE 'state-committed/%';

-- name: fill
-- $1 partition, $2 from offset, $3 to offset (exclusive). The last entry of each key wins; the
-- projection stands in the entry, so nothing is folded. Twice is as good as once.
INSERT INTO workflow_projection_next AS w
    (workflow_key, version, tag, last_action, namespace, updated_at, indices, extras)
SELECT DISTINCT ON (workflow_key)
       workflow_key, version, body -> 'projection' ->> 'tag', body -> 'action' ->> 'type',
       body -> 'projection' ->> 'namespace', committed_at,
       nullif((body -> 'projection' -> 'indices')::JSONB, 'null'),
       nullif((body -> 'projection' -> 'extras')::JSONB, 'null')
FROM event_log_state_committed
WHERE partition = $1 AND "offset" >= $2 AND "offset" < $3
ORDER BY workflow_key, version DESC
ON CONFLICT (workflow_key) DO UPDATE
SET version = excluded.version, tag = excluded.tag, last_action = excluded.last_action,
    namespace = excluded.namespace, updated_at = excluded.updated_at,
    indices = excluded.indices, extras = excluded.extras
WHERE w.version < excluded.version;

-- name: lock_watermarks
-- First the watermarks, as the materializers do, then the table: so nobody waits in a circle.
-- Materializers wait from here on. Nothing is written to these rows (R11): the next generation is
-- brought up to exactly these watermarks, and so they become its own (R7).
SELECT partition_id, "offset" FROM projection_watermarks
WHERE partition_id LIKE 'state-committed/%' ORDER BY partition_id FOR UPDATE;

-- name: lock_projection
-- Readers wait from here on, for the few entries that are left and the renaming.
LOCK TABLE workflow_projection IN ACCESS EXCLUSIVE MODE;

-- name: set_lock_timeout
-- For the transaction: a long reader must not make everyone else wait behind us.
SET LOCAL lock_timeout = '2s';

-- name: analyze_generation
-- Before the swap, so that the first to read it are planned for with statistics.
ANALYZE workflow_projection_next;

-- name: swap
-- The next generation takes the place, the names of its indices and who may use it included: grants
-- on the table and on its columns, by whomever they were given. Role 0 is PUBLIC.
DO $$
DECLARE
    granted    RECORD;
    index_name RECORD;
BEGIN
    FOR granted IN
        SELECT a.privilege_type AS privilege, '' AS on_column, a.grantee, a.is_grantable
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = 'workflow_projection'::regclass
        UNION ALL
        SELECT a.privilege_type, format('(%I)', t.attname), a.grantee, a.is_grantable
        FROM pg_attribute t, aclexplode(t.attacl) a
        WHERE t.attrelid = 'workflow_projection'::regclass AND NOT t.attisdropped
    LOOP
        EXECUTE format('GRANT %s %s ON workflow_projection_next TO %s %s',
                       granted.privilege, granted.on_column,
                       CASE granted.grantee WHEN 0 THEN 'PUBLIC'
                                            ELSE granted.grantee::regrole::TEXT END,
                       CASE WHEN granted.is_grantable THEN 'WITH GRANT OPTION' ELSE '' END);
    END LOOP;
    DROP TABLE workflow_projection;
    ALTER TABLE workflow_projection_next RENAME TO workflow_projection;
    FOR index_name IN
        SELECT indexname AS old,
               CASE
                   WHEN indexdef LIKE '%UNIQUE%' THEN 'workflow_projection_pkey'
                   WHEN indexdef LIKE '%(namespace,%' THEN 'idx_projection_namespace'
                   ELSE 'idx_projection_tag'
               END AS new
        FROM pg_indexes
        WHERE tablename = 'workflow_projection' AND schemaname = current_schema()
    LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', index_name.old, index_name.new);
    END LOOP;
    COMMENT ON TABLE workflow_projection IS
        'The queryable copy: at watermark W it is the projection of the fold up to W (R7).';
END $$;

-- name: count_rows
-- How many keys the projection shows.
SELECT count(*) FROM workflow_projection;
