-- name: outcomes
-- $1 action ids UUID[]. What the log tells of all actions that are waited for in this process, in
-- the order in which it happened: one question, however many wait. Both look-ups go by a hash index.
SELECT 'StateCommitted' AS event, c.workflow_key, c.version, c.action_id, c."offset",
       c.committed_at AS happened_at, c.body::TEXT AS body
FROM unnest($1::UUID[]) AS a(id)
JOIN event_log_state_committed c ON c.action_id = a.id
UNION ALL
SELECT 'ReducerGaveUp', g.workflow_key, g.version, g.action_id, g."offset",
       g.given_up_at, g.body::TEXT
FROM unnest($1::UUID[]) AS a(id)
JOIN event_log_reducer_gave_up g ON g.action_id = a.id
ORDER BY happened_at;
