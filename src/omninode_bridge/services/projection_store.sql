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

-- name: list_runs
-- $1 tag or NULL, $2 after key or NULL, $3 limit. As above, of keys run:... alone. With LIKE and not a
-- range: what is between two keys is the collation's business, what a key begins with is not.
SELECT workflow_key, version, tag, last_action, namespace, updated_at, indices::TEXT AS indices,
       extras::TEXT AS extras
FROM workflow_projection
WHERE workflow_key LIKE 'run:%'
  AND ($1::TEXT IS NULL OR tag = $1)
  AND ($2::TEXT IS NULL OR workflow_key > $2)
ORDER BY workflow_key LIMIT $3;

-- name: versions
-- $1 keys TEXT[]. For all waiters of this process at once: one question, whoever asks.
SELECT workflow_key, version, tag FROM workflow_projection WHERE workflow_key = ANY ($1);

-- name: read_canonical
-- $1 key TEXT. The projection of the state that is committed now: it stands in the log entry of that
-- version, so it is what the materializer will write, whoever asks and whatever is declared here.
SELECT s.workflow_key, s.version,
       e.body -> 'projection' ->> 'tag' AS tag,
       e.body -> 'action' ->> 'type' AS last_action,
       e.body -> 'projection' ->> 'namespace' AS namespace,
       e.committed_at AS updated_at,
       nullif((e.body -> 'projection' -> 'indices')::TEXT, 'null') AS indices,
       nullif((e.body -> 'projection' -> 'extras')::TEXT, 'null') AS extras
FROM workflow_state s
JOIN event_log_state_committed e
  ON e.workflow_key = s.workflow_key AND e.version = s.version
WHERE s.workflow_key = $1;
