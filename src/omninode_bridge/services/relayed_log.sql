-- name: read_state_committed
-- $1 partition, $2 position, $3 limit, $4 incarnation of the log UUID. History is never cut off, so an
-- empty answer means "not yet". The incarnation is asked for once, and later than what is read was
-- there: if it has not changed by then, neither had the log.
SELECT "offset", workflow_key, version, action_id, committed_at AS happened_at, body::TEXT AS body
FROM event_log_state_committed
WHERE (SELECT event_log_require_incarnation($4)) AND partition = $1 AND "offset" >= $2
ORDER BY "offset" LIMIT $3;

-- name: read_reducer_gave_up
-- $1 partition, $2 position, $3 limit, $4 incarnation of the log UUID. As read_state_committed.
SELECT "offset", workflow_key, version, action_id, given_up_at AS happened_at, body::TEXT AS body
FROM event_log_reducer_gave_up
WHERE (SELECT event_log_require_incarnation($4)) AND partition = $1 AND "offset" >= $2
ORDER BY "offset" LIMIT $3;

-- name: read_fsm_state_transitioned
-- $1 partition, $2 position, $3 limit, $4 incarnation of the log UUID. As read_state_committed.
SELECT "offset", workflow_key, NULL::BIGINT AS version, action_id, committed_at AS happened_at,
       body::TEXT AS body
FROM event_log_fsm_state_transitioned
WHERE (SELECT event_log_require_incarnation($4)) AND partition = $1 AND "offset" >= $2
ORDER BY "offset" LIMIT $3;

-- name: position
-- $1 topic of the bus, $2 partition, $3 incarnation, $4 incarnation of our log UUID. The position, made
-- at 1 where there is none, and the incarnation that it holds for. DO UPDATE, and not DO NOTHING: so
-- that a row is returned.
INSERT INTO bus_positions AS p (consumer, topic, partition, home, incarnation, next)
SELECT 'relay', $1, $2, $2, $3, 1 WHERE event_log_require_incarnation($4)
ON CONFLICT (topic, partition, consumer, home) DO UPDATE SET next = p.next
RETURNING incarnation, next;

-- name: advance
-- $1 topic of the bus, $2 partition, $3 incarnation, $4 next, $5 incarnation of our log UUID. The
-- incarnation that the position holds for; no row: it was forgotten. It never goes back, and stays
-- when it holds for another incarnation.
UPDATE bus_positions
SET next = CASE WHEN incarnation = $3 THEN greatest(next, $4) ELSE next END, updated_at = now()
WHERE consumer = 'relay' AND topic = $1 AND partition = $2 AND home = $2
  AND event_log_require_incarnation($5)
RETURNING incarnation;

-- name: positions
-- Where this log and the topics of a bus are in step.
SELECT consumer, topic, partition, home, incarnation, next, updated_at FROM bus_positions
ORDER BY topic, consumer, partition, home;

-- name: forget
-- $1 topic of the bus. How many positions were forgotten: for a person who has looked.
WITH gone AS (DELETE FROM bus_positions WHERE topic = $1 RETURNING 1)
SELECT count(*) FROM gone;
