-- name: read
-- $1 key TEXT.
SELECT workflow_key, version, tag, last_action, namespace, updated_at, indices::TEXT AS indices,
       extras::TEXT AS extras
FROM workflow_projection WHERE workflow_key = $1;

-- name: list_by_namespace_and_tag
-- $1 namespace or NULL, $2 tag or NULL, $3 after key or NULL, $4 limit. A page in order of the key.
SELECT workflow_key, version, tag, last_action, namespace, updated_at, indices::TEXT AS indices,
       extras::TEXT AS extras
FROM workflow_projection
WHERE ($1::TEXT IS NULL OR namespace = $1)
  AND ($2::TEXT IS NULL OR tag = $2)
  AND ($3::TEXT IS NULL OR workflow_key > $3)
ORDER BY workflow_key LIMIT $4;

-- name: versions
-- $1 keys TEXT[]. For all waiters of this process at once: one question, whoever asks.
SELECT workflow_key, version FROM workflow_projection WHERE workflow_key = ANY ($1);

-- name: read_canonical
-- $1 key TEXT. What a projection is made of, from the truth.
SELECT version, state::TEXT AS state, provenance ->> 'action_type' AS action_type, updated_at
FROM workflow_state WHERE workflow_key = $1;
