-- name: find
-- $1 key TEXT, $2 action id UUID. Presence decides, not expiry (R3).
SELECT TRUE FROM action_dedup_log WHERE workflow_key = $1 AND action_id = $2;

-- name: remember
-- $1 key, $2 action id, $3 result hash, $4 lifetime INTERVAL. The caller's transaction holds the
-- partition's row, as a commit does: so an id cannot get two outcomes. One row, or none if known.
INSERT INTO action_dedup_log
    (workflow_key, action_id, request_hash, result_hash, version, outcome, expires_at)
VALUES ($1, $2, $3, $3, NULL, '{"event": "ActionProcessed"}', now() + $4)
ON CONFLICT (workflow_key, action_id) DO NOTHING
RETURNING TRUE;

-- name: cleanup_expired
-- $1 limit, $2 from when TIMESTAMPTZ on, NULL for the beginning. One row: how many are forgotten, and
-- when the last of them expired; the argument is with the function (migration 008).
SELECT forgotten, reached FROM action_dedup_cleanup_expired($1, coalesce($2::TIMESTAMPTZ, '-infinity'));
