-- name: append_actions
-- $1 partition, $2 keys TEXT[], $3 ids UUID[], $4 bodies TEXT[], $5 due at TIMESTAMPTZ[] or NULL,
-- $6 entries a segment, $7 source partition or NULL, $8 next position of the source,
-- $9 source offsets BIGINT[], $10 incarnation of the log UUID. How many were new; the argument is with
-- the function (migration 010).
SELECT event_log_append_actions($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: fire_timers
-- $1 partition, $2 limit, $3 entries a segment. One row: how many, and the seconds to the next.
SELECT fired, next_s FROM timers_fire($1, $2, $3);

-- name: read_actions
-- $1 partition, $2 position, $3 limit. One row for the bounds of the log, then its entries: read in
-- one statement, hence from one snapshot, so that "cut off" and "empty" cannot be mixed up (R6).
-- The head is found from behind: rule 3 of migration 009.
SELECT h.action_low AS low, h.action_head AS head, e."offset", e.body::TEXT AS body
FROM (SELECT action_low, action_head FROM event_log_action_heads
      WHERE partition BETWEEN $1 AND $1 ORDER BY partition DESC LIMIT 1) h
LEFT JOIN LATERAL (
    SELECT a."offset", a.body FROM event_log_action a
    WHERE a.partition = $1 AND a."offset" >= $2
    ORDER BY a."offset" LIMIT $3
) e ON TRUE
ORDER BY e."offset";

-- name: read_intents
-- $1 partition, $2 position, $3 limit. As read_actions.
SELECT h.intent_low AS low, h.intent_head AS head, e.*
FROM (SELECT intent_low, intent_head FROM event_log_partitions
      WHERE partition BETWEEN $1 AND $1 ORDER BY partition DESC LIMIT 1) h
LEFT JOIN LATERAL (
    SELECT i."offset", i.intent_id, i.intent_type, i.target, i.workflow_key, i.action_id,
           i.committed_at, i.body::TEXT AS body
    FROM event_log_intent i
    WHERE i.partition = $1 AND i."offset" >= $2
    ORDER BY i."offset" LIMIT $3
) e ON TRUE
ORDER BY e."offset";

-- name: reducer_position
-- $1 partition. The worker's position in its action log.
SELECT next FROM event_log_positions
WHERE topic = 'action' AND partition = $1 AND consumer = 'reducer' AND home = $1;

-- name: dispatcher_positions
-- $1 source partition. What each target partition has taken over from it.
SELECT home, next FROM event_log_positions
WHERE topic = 'intent' AND partition = $1 AND consumer = 'dispatcher'
ORDER BY home;

-- name: progress
-- $1 types of effects TEXT[]. One row a partition: the heads, and how far the last consumer of each
-- topic is. One statement is one snapshot: no position is younger than the heads beside it.
-- A parked effect of these types holds the position of the intents back at its own, as if it were in
-- the log still, unless it only waits for its own time. It is parked in the transaction that moves
-- the position past it, and what follows from its end is in the log when it is gone: there is no
-- moment at which it, or that, is not seen.
SELECT p.partition,
       a.action_head, p.intent_head, p.state_committed_head,
       (SELECT next FROM event_log_positions r
        WHERE r.topic = 'action' AND r.partition = p.partition
          AND r.consumer = 'reducer' AND r.home = p.partition) AS action_position,
       least(
           (SELECT min(d.next) FROM event_log_positions d
            WHERE d.topic = 'intent' AND d.partition = p.partition),
           (SELECT min(e."offset") FROM unnest($1::TEXT[]) AS t(intent_type)
            CROSS JOIN LATERAL (
                SELECT w."offset" FROM effects w
                WHERE w.partition = p.partition AND w.intent_type = t.intent_type
                  AND w.status = 'waiting'
                  AND (w.due_at <= clock_timestamp() OR w.attempts > 0 OR w.redriven > 0)
            ) e)
       ) AS intent_position,
       coalesce((SELECT w."offset" FROM projection_watermarks w
        WHERE w.partition_id = 'state-committed/' || p.partition), 1) AS state_committed_position
FROM event_log_partitions p
JOIN event_log_action_heads a ON a.partition = p.partition
ORDER BY p.partition;

-- name: follow_ups_between
-- $1 and $2 heads of the action logs BIGINT[], one a partition; $3 and $4 of the intent logs; $5 and
-- $6 depths. Whether from $1 to $2 there is an action of depth $5 or more, or from $3 to $4 an intent
-- of one of depth $6 or more; or whether some of that has been cut off.
SELECT EXISTS (
    SELECT FROM unnest($1::BIGINT[], $2::BIGINT[]) WITH ORDINALITY AS h(low, high, place)
    JOIN event_log_action a
      ON a.partition = h.place - 1 AND a."offset" >= h.low AND a."offset" < h.high
    WHERE coalesce((a.body->>'depth')::INT, 0) >= $5
) OR EXISTS (
    SELECT FROM unnest($3::BIGINT[], $4::BIGINT[]) WITH ORDINALITY AS h(low, high, place)
    JOIN event_log_intent i
      ON i.partition = h.place - 1 AND i."offset" >= h.low AND i."offset" < h.high
    WHERE coalesce((i.body->>'depth')::INT, 0) >= $6
) OR EXISTS (
    SELECT FROM unnest($1::BIGINT[], $3::BIGINT[]) WITH ORDINALITY AS h(action, intent, place)
    JOIN event_log_action_heads a ON a.partition = h.place - 1
    JOIN event_log_partitions p ON p.partition = h.place - 1
    WHERE a.action_low > h.action OR p.intent_low > h.intent
);

-- name: register_consumer
-- $1 consumer, $2 topic, $3 partition, $4 home. From the log's low on; keeps a known position.
SELECT event_log_register($1, $2, $3, $4);

-- name: retire_consumer
-- $1 consumer, $2 topic. Its positions no longer hold segments back.
DELETE FROM event_log_positions WHERE consumer = $1 AND topic = $2;

-- name: history
-- $1 key, $2 after version, $3 limit.
SELECT version, body::TEXT AS body, committed_at
FROM event_log_state_committed
WHERE workflow_key = $1 AND version > $2
ORDER BY version LIMIT $3;

-- name: explain_committed
-- $1 action id. At most one entry a key.
SELECT partition, "offset", workflow_key, version, committed_at, body::TEXT AS body
FROM event_log_state_committed
WHERE action_id = $1 ORDER BY workflow_key;

-- name: explain_gave_up
-- $1 action id. One that was redriven in vain has several, in their order.
SELECT partition, "offset", workflow_key, version, given_up_at, body::TEXT AS body
FROM event_log_reducer_gave_up
WHERE action_id = $1 ORDER BY workflow_key, "offset";

-- name: explain_intents
-- $1 partition, $2 action id. Those that have not been cut off; only `explain` reads them so.
SELECT "offset", intent_id, intent_type, target, body::TEXT AS body
FROM event_log_intent
WHERE partition = $1 AND action_id = $2 ORDER BY "offset";

-- name: set_lock_timeout
-- For the transaction: dropping a segment rather fails than makes commits wait. They queue behind
-- it while it waits for a reader, and the drop itself takes some more milliseconds: 50 in all.
SET LOCAL lock_timeout = '25ms';

-- name: drop_segments
-- $1 topic, $2 partition. How many were dropped, 0 or 1; the argument is with the function.
SELECT event_log_drop_segments($1, $2);

-- name: create_partitions
-- $1 how many, for a new database. How many it has, and the incarnation of its log.
SELECT partitions, incarnation FROM event_log_create_partitions($1);

-- name: default_isolation
-- What a statement outside of any BEGIN runs at. The commit function's proof rests on READ COMMITTED.
SELECT current_setting('default_transaction_isolation');
