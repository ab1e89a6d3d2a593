-- name: begin
-- $1 partition. The position of its effects, and the head of their log.
SELECT p.next, h.intent_head AS head
FROM event_log_positions p JOIN event_log_partitions h ON h.partition = p.partition
WHERE p.topic = 'intent' AND p.partition = $1 AND p.consumer = 'effects' AND p.home = $1;

-- name: over
-- $1 partition, $2 position. What is over or parked from there on. Bounded by the runner's window.
SELECT "offset" FROM effect_log WHERE partition = $1 AND "offset" >= $2
UNION
SELECT "offset" FROM effects WHERE partition = $1 AND "offset" >= $2;

-- name: waiting
-- $1 partition, $2 types TEXT[]. Those that hold back others of their key: failed, or overdue.
SELECT intent_type, workflow_key, "offset" FROM effects
WHERE partition = $1 AND intent_type = ANY ($2) AND status = 'waiting'
  AND (attempts > 0 OR due_at <= clock_timestamp());

-- name: read
-- $1 partition, $2 position, $3 limit. One row for the bounds of the log, then its entries, from one
-- snapshot (R6). What the dispatcher carries over is left out. The head is found from behind: rule 3
-- of migration 009.
SELECT h.intent_low AS low, h.intent_head AS head, e.*
FROM (SELECT intent_low, intent_head FROM event_log_partitions
      WHERE partition BETWEEN $1 AND $1 ORDER BY partition DESC LIMIT 1) h
LEFT JOIN LATERAL (
    SELECT i."offset", i.intent_id, i.intent_type, i.target, i.workflow_key, i.action_id,
           i.committed_at, i.body::TEXT AS body
    FROM event_log_intent i
    WHERE i.partition = $1 AND i."offset" >= $2
      AND i.intent_type NOT IN ('SubmitAction', 'ActionAnswered')
    ORDER BY i."offset" LIMIT $3
) e ON TRUE
ORDER BY e."offset";

-- name: due
-- $1 partition, $2 types TEXT[], $3 how many of each INT[], $4 ordered types TEXT[], $5 offsets to
-- leave out BIGINT[]. Those due first first. An ordered one waits for those of its key before it, but
-- not for one whose own time has not come.
SELECT e.*
FROM unnest($2::TEXT[], $3::INT[]) AS t(intent_type, room)
CROSS JOIN LATERAL (
    SELECT w."offset", w.intent_id, w.intent_type, w.target, w.workflow_key, w.action_id,
           w.committed_at, w.body::TEXT AS body, w.attempts, w.redriven, w.detail,
           TRUE AS maybe_begun
    FROM effects w
    WHERE w.partition = $1 AND w.intent_type = t.intent_type AND w.status = 'waiting'
      AND w.due_at <= clock_timestamp() AND NOT w."offset" = ANY ($5::BIGINT[])
      AND (NOT w.intent_type = ANY ($4::TEXT[]) OR NOT EXISTS (
          SELECT FROM effects b
          WHERE b.partition = $1 AND b.intent_type = w.intent_type
            AND b.workflow_key = w.workflow_key AND b.status = 'waiting'
            AND b."offset" < w."offset" AND (b.attempts > 0 OR b.due_at <= clock_timestamp())))
    ORDER BY w.due_at, w."offset" LIMIT t.room
) e;

-- name: next_due
-- $1 partition, $2 types TEXT[], $3 offsets to leave out. Seconds to the first that is not due yet.
SELECT extract(EPOCH FROM min(m.due_at) - clock_timestamp())::FLOAT8
FROM unnest($2::TEXT[]) AS t(intent_type)
CROSS JOIN LATERAL (
    SELECT w.due_at FROM effects w
    WHERE w.partition = $1 AND w.intent_type = t.intent_type AND w.status = 'waiting'
      AND w.due_at > clock_timestamp() AND NOT w."offset" = ANY ($3::BIGINT[])
    ORDER BY w.due_at LIMIT 1
) m;

-- name: find
-- $1 partition, $2 intent id UUID. What waits for its next attempt may have been begun, or was tried
-- before; what still waits for its own time was not.
SELECT "offset", intent_id, intent_type, target, workflow_key, action_id, committed_at,
       body::TEXT AS body, attempts, redriven, detail,
       due_at <= clock_timestamp()
           OR due_at IS DISTINCT FROM coalesce(
               (body ->> 'due_at')::TIMESTAMPTZ,
               committed_at + (body ->> 'due_in_ms')::BIGINT * INTERVAL '1 millisecond'
           ) AS maybe_begun
FROM effects
WHERE intent_id = $2 AND partition = $1 AND status = 'waiting';

-- name: settle
-- Ends, parked effects, follow-ups and position; parameters and proof are with the function
-- (migration 011). The offsets that ended in this call, NULL for who is not the owner.
SELECT effects_settle_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28);

-- name: settle_held
-- $29 milliseconds TEXT; the others are with the function (migration 011). In the transaction of a
-- handler: from here to its end it holds the partition's row, and should its client go meanwhile, the
-- server ends it after $29.
SELECT effects_settle_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28),
    set_config('idle_in_transaction_session_timeout', $29, TRUE);

-- name: of_action
-- $1 action id UUID. How the effects of an action ended, and those that did not yet.
SELECT intent_id, status, attempts, detail, finished_at, NULL::TIMESTAMPTZ AS due_at
FROM effect_log WHERE action_id = $1
UNION ALL
SELECT intent_id, status, attempts, detail, NULL, due_at
FROM effects WHERE action_id = $1 AND status = 'waiting'
ORDER BY finished_at NULLS LAST;
