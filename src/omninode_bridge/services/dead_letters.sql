-- name: list_actions
-- $1 reasons TEXT[], $2 after partition INT, $3 after offset, $4 limit, $5 heads BIGINT[]. The last
-- give-up of each action that was given up for one of these reasons and has not been committed since.
-- With heads, by partition: only those that lie before them.
SELECT g.partition, g."offset", g.workflow_key, g.version, g.action_id, g.given_up_at,
       g.body::TEXT AS body
FROM event_log_reducer_gave_up g
WHERE (g.partition, g."offset") > ($2, $3) AND g.body ->> 'reason' = ANY ($1)
  AND ($5::BIGINT[] IS NULL OR g."offset" < $5[g.partition + 1])
  AND NOT EXISTS (SELECT FROM event_log_state_committed c
                  WHERE c.action_id = g.action_id AND c.workflow_key = g.workflow_key)
  AND NOT EXISTS (SELECT FROM event_log_reducer_gave_up later
                  WHERE later.action_id = g.action_id AND later.workflow_key = g.workflow_key
                    AND later."offset" > g."offset")
ORDER BY g.partition, g."offset" LIMIT $4;

-- name: heads
-- Of the logs of give-ups and intents, by partition; they are numbered from 0.
SELECT array_agg(reducer_gave_up_head ORDER BY partition) AS gave_up,
       array_agg(intent_head ORDER BY partition) AS intent
FROM event_log_partitions;

-- name: find_actions
-- $1 action id UUID. As list_actions, whatever the reason was; one row a key.
SELECT g.partition, g."offset", g.workflow_key, g.version, g.action_id, g.given_up_at,
       g.body::TEXT AS body
FROM event_log_reducer_gave_up g
WHERE g.action_id = $1
  AND NOT EXISTS (SELECT FROM event_log_state_committed c
                  WHERE c.action_id = g.action_id AND c.workflow_key = g.workflow_key)
  AND NOT EXISTS (SELECT FROM event_log_reducer_gave_up later
                  WHERE later.action_id = g.action_id AND later.workflow_key = g.workflow_key
                    AND later."offset" > g."offset")
ORDER BY g.workflow_key;

-- name: list_effects
-- $1 after partition INT, $2 after offset, $3 limit, $4 heads BIGINT[]. Dead effects; with heads, by
-- partition: of intents that lie before them.
SELECT partition, "offset", intent_id, intent_type, target, workflow_key, action_id, attempts,
       redriven, due_at, detail, body::TEXT AS body
FROM effects
WHERE status = 'dead' AND (partition, "offset") > ($1, $2)
  AND ($4::BIGINT[] IS NULL OR "offset" < $4[partition + 1])
ORDER BY partition, "offset" LIMIT $3;

-- name: find_effect
-- $1 intent id UUID.
SELECT partition, "offset", intent_id, intent_type, target, workflow_key, action_id, attempts,
       redriven, due_at, detail, body::TEXT AS body
FROM effects
WHERE intent_id = $1 AND status = 'dead';

-- name: redrive_effect
-- $1 partition, $2 intent id UUID. Whether it was dead.
SELECT effects_redrive($1, $2);
