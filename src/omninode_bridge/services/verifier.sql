-- name: read_entries
-- $1 key, $2 version, $3 limit. The history of all keys in order of key and version, behind ($1, $2).
SELECT partition, "offset", workflow_key, version, committed_at, body::TEXT AS body
FROM event_log_state_committed
WHERE (workflow_key, version) > ($1, $2)
ORDER BY workflow_key, version LIMIT $3;

-- name: read_states
-- $1 from key (exclusive), $2 to key (inclusive; NULL: the end).
SELECT workflow_key, version, state::TEXT AS state, provenance ->> 'chain' AS chain
FROM workflow_state
WHERE workflow_key > $1 AND ($2::TEXT IS NULL OR workflow_key <= $2);

-- name: read_projections
-- $1 from key (exclusive), $2 to key (inclusive; NULL: the end).
SELECT workflow_key, version, tag, last_action, namespace, updated_at, indices::TEXT AS indices,
       extras::TEXT AS extras
FROM workflow_projection
WHERE workflow_key > $1 AND ($2::TEXT IS NULL OR workflow_key <= $2);

-- name: watermarks
-- How far the projection of each partition has come.
SELECT p.partition, coalesce(w."offset", 1) AS watermark
FROM event_log_partitions p
LEFT JOIN projection_watermarks w ON w.partition_id = 'state-committed/' || p.partition;

-- name: read_entry
-- $1 key, $2 version.
SELECT "offset", committed_at, body::TEXT AS body
FROM event_log_state_committed WHERE workflow_key = $1 AND version = $2;
