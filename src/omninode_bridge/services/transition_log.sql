-- name: history
-- $1 key TEXT, $2 after BIGINT, $3 limit. A page of one key's transitions, by its index. Offsets are
-- given under the partition's lock, so whoever pages by them skips none (R6).
SELECT "offset", action_id, committed_at, body::TEXT AS body
FROM event_log_fsm_state_transitioned
WHERE workflow_key = $1 AND "offset" > $2
ORDER BY "offset" LIMIT $3;

-- name: last
-- $1 key TEXT, $2 version BIGINT. The last transition at that version or before. Versions grow with
-- offsets, so it is found from the end of the key's part of the index.
SELECT "offset", action_id, committed_at, body::TEXT AS body
FROM event_log_fsm_state_transitioned
WHERE workflow_key = $1 AND (body ->> 'version')::BIGINT <= $2
ORDER BY "offset" DESC LIMIT 1;
