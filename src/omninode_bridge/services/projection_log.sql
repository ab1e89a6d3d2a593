-- name: read_committed
-- $1 partition, $2 position, $3 limit. History is never cut off, so an empty answer means "not yet".
SELECT "offset", workflow_key, version, committed_at, body -> 'action' ->> 'type' AS action_type,
       (body -> 'projection')::TEXT AS projection
FROM event_log_state_committed
WHERE partition = $1 AND "offset" >= $2
ORDER BY "offset" LIMIT $3;

-- name: watermark
-- $1 partition id TEXT. No row: nothing has been projected yet.
SELECT "offset" FROM projection_watermarks WHERE partition_id = $1;

-- name: apply
-- Rows and watermark of one partition; parameters and argument are with the function (migration 009).
SELECT projection_apply($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);
