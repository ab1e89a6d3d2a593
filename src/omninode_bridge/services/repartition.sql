-- name: set_timeouts
-- For the transaction: who holds what we need makes us give up, not wait; the work takes what it takes.
SET LOCAL lock_timeout = '5s';

-- name: lift_time_limits
-- For the transaction: limits of the role are for requests, not for this.
SET LOCAL statement_timeout = 0;

-- name: present
-- How many partitions there are.
SELECT partitions FROM event_log_database;

-- name: owners
-- Who holds a lease that is not over, and how many partitions by it.
SELECT owner_name, count(*) AS partitions FROM event_log_partitions
WHERE owner IS NOT NULL AND lease_until >= clock_timestamp()
GROUP BY owner_name ORDER BY owner_name;

-- name: members
-- Processes that are there and hold nothing: they follow the commits of others, or wait for a turn.
SELECT m.name FROM event_log_members m
WHERE m.seen_until >= clock_timestamp() AND NOT EXISTS (
    SELECT FROM event_log_partitions p
    WHERE p.owner_member = m.member AND p.lease_until >= clock_timestamp())
ORDER BY m.name;

-- name: sessions
-- $1 application name TEXT. Sessions of other bridges here, those that only look included.
SELECT pid, client_addr::TEXT AS client FROM pg_stat_activity
WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()
ORDER BY pid;

-- name: behind
-- Each registered consumer that has not read its topic to the end, and the projection if it has not:
-- how many entries are left of all partitions.
WITH head AS (
    SELECT p.partition, t.topic,
           CASE t.topic WHEN 'action' THEN a.action_head ELSE p.intent_head END AS head
    FROM event_log_partitions p
    JOIN event_log_action_heads a USING (partition)
    CROSS JOIN (VALUES ('action'), ('intent')) AS t(topic)
), slowest AS (
    SELECT r.topic, r.consumer, r.partition, min(r.next) AS next
    FROM event_log_positions r GROUP BY r.topic, r.consumer, r.partition
)
SELECT s.topic, s.consumer, sum(h.head - s.next)::BIGINT AS entries
FROM slowest s JOIN head h USING (topic, partition)
WHERE s.next < h.head GROUP BY s.topic, s.consumer
UNION ALL
SELECT 'state-committed', 'projection', sum(p.state_committed_head - coalesce(w."offset", 1))::BIGINT
FROM event_log_partitions p
LEFT JOIN projection_watermarks w ON w.partition_id = 'state-committed/' || p.partition
WHERE coalesce(w."offset", 1) < p.state_committed_head
HAVING count(*) > 0
ORDER BY 1, 2;

-- name: behind_the_bus
-- $1 topics TEXT[] of our log, $2 their names on a bus. Each topic of a bus that our history goes to, with
-- how many entries of all partitions it has not confirmed, and how many topics of that name there
-- have been.
SELECT s.topic, s.incarnations, sum(s.head - s.next)::BIGINT AS entries
FROM (
    SELECT t.topic, t.incarnations, p.partition, coalesce(r.next, 1) AS next,
           CASE n.ours WHEN 'state-committed' THEN p.state_committed_head
                       WHEN 'reducer-gave-up' THEN p.reducer_gave_up_head
                       ELSE p.fsm_head END AS head
    FROM (SELECT topic, count(DISTINCT incarnation) AS incarnations FROM bus_positions
          WHERE consumer = 'relay' GROUP BY topic) t
    JOIN unnest($1::TEXT[], $2::TEXT[]) AS n(ours, theirs) ON right(t.topic, length(theirs)) = theirs
    CROSS JOIN event_log_partitions p
    LEFT JOIN bus_positions r ON r.consumer = 'relay' AND r.topic = t.topic
                             AND r.partition = p.partition AND r.home = p.partition
) s
GROUP BY s.topic, s.incarnations
HAVING sum(s.head - s.next) > 0 OR s.incarnations > 1
ORDER BY s.topic;

-- name: taken_over
-- How far each partition of a bus's topic of actions has been taken over by its own partition here; from
-- its beginning on, if it has not begun.
SELECT t.topic, p.partition, coalesce(r.incarnation, t.incarnation) AS incarnation,
       coalesce(r.next, 0) AS next
FROM (SELECT topic, min(incarnation) AS incarnation FROM bus_positions
      WHERE consumer = 'intake' GROUP BY topic) t
CROSS JOIN event_log_partitions p
LEFT JOIN bus_positions r ON r.consumer = 'intake' AND r.topic = t.topic
                         AND r.partition = p.partition AND r.home = p.partition
ORDER BY t.topic, p.partition;

-- name: readers_of_some
-- Consumers that are registered in some partitions and not in others: of the new ones nobody knows
-- which are meant.
SELECT topic, consumer FROM event_log_positions
GROUP BY topic, consumer
HAVING count(DISTINCT partition) < (SELECT count(*) FROM event_log_partitions)
ORDER BY topic, consumer;

-- name: take_turn
-- For the transaction: whoever opens a bridge waits here (event_log_create_partitions), and so does
-- another change.
SELECT pg_advisory_xact_lock(hashtext('omninode_bridge.partitions'));

-- name: stop_rebuilds
-- For the transaction: no rebuild of the projection makes, fills or swaps a generation.
SELECT pg_advisory_xact_lock(hashtext('omninode_bridge.rebuild'));

-- name: drop_generation
-- A rebuild that is under way will find its generation gone: what it has filled, it filled by the
-- old offsets.
DROP TABLE IF EXISTS workflow_projection_next;

-- name: lock_tables
-- Against everyone who writes, in the order in which they lock rows (rule 2 of migration 009). Each
-- begins with a row of one of the first four, or of the watermarks, so it has either ended, or waits
-- here and sees afterwards what we have done: the new incarnation first of all. Who only reads goes
-- on, and sees all of the old or all of the new.
LOCK TABLE event_log_database, event_log_partitions, event_log_action_heads, event_log_positions,
           bus_positions, projection_watermarks, timers, effects, effect_log, event_log_members
    IN EXCLUSIVE MODE;

-- name: lock_transient
-- Their tables are made anew, so who reads there waits too.
LOCK TABLE event_log_action, event_log_intent IN ACCESS EXCLUSIVE MODE;

-- name: make_keys
-- Where each key will be.
CREATE TEMP TABLE repartition_keys (
    workflow_key TEXT NOT NULL,
    partition    INT  NOT NULL
) ON COMMIT DROP;

-- name: declare_keys
-- Every key of which something is stored by partition, to be read some at a time (R13).
DECLARE repartition_all_keys CURSOR FOR
SELECT workflow_key FROM event_log_state_committed
UNION SELECT workflow_key FROM event_log_reducer_gave_up
UNION SELECT workflow_key FROM event_log_fsm_state_transitioned
UNION SELECT workflow_key FROM event_log_intent
UNION SELECT workflow_key FROM effects
UNION SELECT workflow_key FROM effect_log
UNION SELECT workflow_key FROM timers;

-- name: fetch_keys
-- The next of them.
FETCH 10000 FROM repartition_all_keys;

-- name: close_keys
-- Before its tables are made anew: they may not be in use.
CLOSE repartition_all_keys;

-- name: analyze_keys
-- Nobody else does it for a temporary table, and all that follows is joined with it.
ANALYZE repartition_keys;

-- name: make_state_committed
-- Its entries on their way.
CREATE TEMP TABLE repartition_state_committed (LIKE event_log_state_committed) ON COMMIT DROP;

-- name: take_state_committed
-- Out of the table, with their new places. Offsets are dense from 1. The order is that of time, as far
-- as it keeps the order within each old partition: `reached` is the latest time up to there, since a
-- clock may have gone back. A key comes from one old partition and goes to one new one, so its order
-- stays (R5). Deleted and put back rather than truncated: who reads with an old snapshot sees the
-- old rows.
WITH placed AS (
    SELECT e.partition, e."offset", k.partition AS new_partition,
           row_number() OVER (PARTITION BY k.partition
                              ORDER BY e.reached, e.partition, e."offset") AS new_offset
    FROM (SELECT partition, "offset", workflow_key,
                 max(committed_at) OVER (PARTITION BY partition ORDER BY "offset"
                                         ROWS UNBOUNDED PRECEDING) AS reached
          FROM event_log_state_committed) e
    JOIN repartition_keys k USING (workflow_key)
), gone AS (
    DELETE FROM event_log_state_committed RETURNING *
)
INSERT INTO repartition_state_committed
    (partition, "offset", workflow_key, version, action_id, committed_at, body)
SELECT p.new_partition, p.new_offset, g.workflow_key, g.version, g.action_id, g.committed_at, g.body
FROM gone g JOIN placed p USING (partition, "offset");

-- name: put_state_committed
-- In the order of the log, so that what is read together lies together.
INSERT INTO event_log_state_committed
    (partition, "offset", workflow_key, version, action_id, committed_at, body)
SELECT partition, "offset", workflow_key, version, action_id, committed_at, body
FROM repartition_state_committed ORDER BY partition, "offset";

-- name: make_gave_up
-- Its entries on their way.
CREATE TEMP TABLE repartition_gave_up (LIKE event_log_reducer_gave_up) ON COMMIT DROP;

-- name: take_gave_up
-- As take_state_committed.
WITH placed AS (
    SELECT e.partition, e."offset", k.partition AS new_partition,
           row_number() OVER (PARTITION BY k.partition
                              ORDER BY e.reached, e.partition, e."offset") AS new_offset
    FROM (SELECT partition, "offset", workflow_key,
                 max(given_up_at) OVER (PARTITION BY partition ORDER BY "offset"
                                        ROWS UNBOUNDED PRECEDING) AS reached
          FROM event_log_reducer_gave_up) e
    JOIN repartition_keys k USING (workflow_key)
), gone AS (
    DELETE FROM event_log_reducer_gave_up RETURNING *
)
INSERT INTO repartition_gave_up
    (partition, "offset", workflow_key, version, action_id, given_up_at, body)
SELECT p.new_partition, p.new_offset, g.workflow_key, g.version, g.action_id, g.given_up_at, g.body
FROM gone g JOIN placed p USING (partition, "offset");

-- name: put_gave_up
-- In the order of the log.
INSERT INTO event_log_reducer_gave_up
    (partition, "offset", workflow_key, version, action_id, given_up_at, body)
SELECT partition, "offset", workflow_key, version, action_id, given_up_at, body
FROM repartition_gave_up ORDER BY partition, "offset";

-- name: make_transitions
-- Entries of fsm-state-transitioned on their way.
CREATE TEMP TABLE repartition_transitions (LIKE event_log_fsm_state_transitioned) ON COMMIT DROP;

-- name: take_transitions
-- As take_state_committed.
WITH placed AS (
    SELECT e.partition, e."offset", k.partition AS new_partition,
           row_number() OVER (PARTITION BY k.partition
                              ORDER BY e.reached, e.partition, e."offset") AS new_offset
    FROM (SELECT partition, "offset", workflow_key,
                 max(committed_at) OVER (PARTITION BY partition ORDER BY "offset"
                                         ROWS UNBOUNDED PRECEDING) AS reached
          FROM event_log_fsm_state_transitioned) e
    JOIN repartition_keys k USING (workflow_key)
), gone AS (
    DELETE FROM event_log_fsm_state_transitioned RETURNING *
)
INSERT INTO repartition_transitions
    (partition, "offset", workflow_key, action_id, committed_at, body)
SELECT p.new_partition, p.new_offset, g.workflow_key, g.action_id, g.committed_at, g.body
FROM gone g JOIN placed p USING (partition, "offset");

-- name: put_transitions
-- In the order of the log.
INSERT INTO event_log_fsm_state_transitioned
    (partition, "offset", workflow_key, action_id, committed_at, body)
SELECT partition, "offset", workflow_key, action_id, committed_at, body
FROM repartition_transitions ORDER BY partition, "offset";

-- name: place_intents
-- New places of all intents that are known of: those still in the log, which `explain` shows, and those
-- that were cut off but are parked, dead or over, and keep the place of their intent. They come
-- first, so that the log goes on without gaps from `low` to its head, and none of them has a place
-- that a later intent could get.
CREATE TEMP TABLE repartition_intents ON COMMIT DROP AS
SELECT e.partition, e."offset", e.in_log, k.partition AS new_partition,
       row_number() OVER (PARTITION BY k.partition
                          ORDER BY e.in_log, e.reached, e.partition, e."offset") AS new_offset
FROM (SELECT partition, "offset", workflow_key, in_log,
             max(happened_at) OVER (PARTITION BY partition ORDER BY "offset"
                                    ROWS UNBOUNDED PRECEDING) AS reached
      FROM (SELECT partition, "offset", min(workflow_key) AS workflow_key,
                   min(happened_at) AS happened_at, bool_or(in_log) AS in_log
            FROM (SELECT partition, "offset", workflow_key, committed_at AS happened_at,
                         TRUE AS in_log
                  FROM event_log_intent
                  UNION ALL
                  SELECT partition, "offset", workflow_key, committed_at, FALSE FROM effects
                  UNION ALL
                  SELECT partition, "offset", workflow_key, finished_at, FALSE FROM effect_log) a
            GROUP BY partition, "offset") b) e
JOIN repartition_keys k USING (workflow_key);

-- name: analyze_intents
-- As analyze_keys.
ANALYZE repartition_intents;

-- name: make_effects
-- Parked and dead effects on their way.
CREATE TEMP TABLE repartition_effects (LIKE effects) ON COMMIT DROP;

-- name: take_effects
-- To the new places of their intents.
WITH gone AS (
    DELETE FROM effects RETURNING *
)
INSERT INTO repartition_effects
    (partition, "offset", intent_id, intent_type, target, workflow_key, action_id, committed_at,
     body, status, attempts, redriven, due_at, detail)
SELECT p.new_partition, p.new_offset, g.intent_id, g.intent_type, g.target, g.workflow_key,
       g.action_id, g.committed_at, g.body, g.status, g.attempts, g.redriven, g.due_at, g.detail
FROM gone g JOIN repartition_intents p USING (partition, "offset");

-- name: put_effects
-- In the order of their log.
INSERT INTO effects
    (partition, "offset", intent_id, intent_type, target, workflow_key, action_id, committed_at,
     body, status, attempts, redriven, due_at, detail)
SELECT partition, "offset", intent_id, intent_type, target, workflow_key, action_id, committed_at,
       body, status, attempts, redriven, due_at, detail
FROM repartition_effects ORDER BY partition, "offset";

-- name: make_effect_log
-- Ends of effects on their way.
CREATE TEMP TABLE repartition_effect_log (LIKE effect_log) ON COMMIT DROP;

-- name: take_effect_log
-- To the new places of their intents.
WITH gone AS (
    DELETE FROM effect_log RETURNING *
)
INSERT INTO repartition_effect_log
    (partition, "offset", redriven, intent_id, intent_type, workflow_key, action_id, status,
     attempts, detail, finished_at)
SELECT p.new_partition, p.new_offset, g.redriven, g.intent_id, g.intent_type, g.workflow_key,
       g.action_id, g.status, g.attempts, g.detail, g.finished_at
FROM gone g JOIN repartition_intents p USING (partition, "offset");

-- name: put_effect_log
-- In the order of their log.
INSERT INTO effect_log
    (partition, "offset", redriven, intent_id, intent_type, workflow_key, action_id, status,
     attempts, detail, finished_at)
SELECT partition, "offset", redriven, intent_id, intent_type, workflow_key, action_id, status,
       attempts, detail, finished_at
FROM repartition_effect_log ORDER BY partition, "offset", redriven;

-- name: make_intents
-- Entries of the intent log on their way.
CREATE TEMP TABLE repartition_intent_log (LIKE event_log_intent) ON COMMIT DROP;

-- name: take_intents
-- Copied only: their tables go whole.
INSERT INTO repartition_intent_log
    (partition, "offset", intent_id, intent_type, target, workflow_key, action_id, committed_at, body)
SELECT p.new_partition, p.new_offset, i.intent_id, i.intent_type, i.target, i.workflow_key,
       i.action_id, i.committed_at, i.body
FROM event_log_intent i JOIN repartition_intents p USING (partition, "offset");

-- name: make_transient_tables
-- $1 how many partitions. New and empty; what was in the action log is consumed.
SELECT event_log_make_transient_tables($1);

-- name: forget_partitions
-- Leases go with them: a token that was shown before is nobody's now (R12).
DELETE FROM event_log_partitions;

-- name: forget_action_heads
-- As forget_partitions.
DELETE FROM event_log_action_heads;

-- name: write_action_heads
-- $1 how many partitions. Their logs are empty.
INSERT INTO event_log_action_heads (partition) SELECT * FROM generate_series(0, $1::INT - 1);

-- name: write_partitions
-- $1 how many partitions. Heads behind what was put, `low` of the intents behind those cut off.
INSERT INTO event_log_partitions
    (partition, state_committed_head, reducer_gave_up_head, fsm_head,
     intent_head, intent_low, intent_end)
SELECT n, 1 + coalesce(c.entries, 0), 1 + coalesce(g.entries, 0), 1 + coalesce(t.entries, 0),
       1 + coalesce(i.known, 0), 1 + coalesce(i.cut_off, 0), 1 + coalesce(i.cut_off, 0)
FROM generate_series(0, $1::INT - 1) n
LEFT JOIN (SELECT partition, count(*) AS entries FROM repartition_state_committed GROUP BY 1) c
    ON c.partition = n
LEFT JOIN (SELECT partition, count(*) AS entries FROM repartition_gave_up GROUP BY 1) g
    ON g.partition = n
LEFT JOIN (SELECT partition, count(*) AS entries FROM repartition_transitions GROUP BY 1) t
    ON t.partition = n
LEFT JOIN (SELECT new_partition, count(*) AS known, count(*) FILTER (WHERE NOT in_log) AS cut_off
           FROM repartition_intents GROUP BY 1) i
    ON i.new_partition = n;

-- name: next_segment
-- The first partition whose intents need one more segment, and where it begins.
SELECT partition, intent_end FROM event_log_partitions
WHERE intent_end < intent_head ORDER BY partition LIMIT 1;

-- name: add_segment
-- $1 partition, $2 first offset, $3 entries a segment.
UPDATE event_log_partitions SET intent_end = event_log_add_segment('intent', $1, $2, $3)
WHERE partition = $1;

-- name: put_intents
-- In the order of their log.
INSERT INTO event_log_intent
    (partition, "offset", intent_id, intent_type, target, workflow_key, action_id, committed_at, body)
SELECT partition, "offset", intent_id, intent_type, target, workflow_key, action_id, committed_at, body
FROM repartition_intent_log ORDER BY partition, "offset";

-- name: move_timers
-- With their keys. Their numbers are unique across partitions, so none is in another's place.
UPDATE timers t SET partition = k.partition
FROM repartition_keys k WHERE k.workflow_key = t.workflow_key AND k.partition <> t.partition;

-- name: make_consumers
-- Who reads what; `crossing` are those with a position for each pair of partitions.
CREATE TEMP TABLE repartition_consumers ON COMMIT DROP AS
SELECT consumer, topic, consumer = 'dispatcher' OR bool_or(home <> partition) AS crossing,
       min(registered_at) AS registered_at
FROM event_log_positions GROUP BY consumer, topic;

-- name: forget_positions
-- All were at the heads.
DELETE FROM event_log_positions;

-- name: write_positions
-- At the new heads.
INSERT INTO event_log_positions (consumer, topic, partition, home, next, registered_at)
SELECT c.consumer, c.topic, p.partition, h.partition,
       CASE c.topic WHEN 'action' THEN a.action_head ELSE p.intent_head END, c.registered_at
FROM repartition_consumers c
CROSS JOIN event_log_partitions p
JOIN event_log_action_heads a USING (partition)
JOIN event_log_partitions h ON c.crossing OR h.partition = p.partition;

-- name: make_relays
-- Which topics of a bus our history goes to, and what they were when it did.
CREATE TEMP TABLE repartition_relays ON COMMIT DROP AS
SELECT topic, min(incarnation) AS incarnation FROM bus_positions
WHERE consumer = 'relay' GROUP BY topic;

-- name: forget_relays
-- All were at the heads.
DELETE FROM bus_positions WHERE consumer = 'relay';

-- name: write_relays
-- $1 and $2 as behind_the_bus. At the new heads: what is before them the bus has had, by its old place.
INSERT INTO bus_positions (consumer, topic, partition, home, incarnation, next)
SELECT 'relay', r.topic, p.partition, p.partition, r.incarnation,
       CASE n.ours WHEN 'state-committed' THEN p.state_committed_head
                   WHEN 'reducer-gave-up' THEN p.reducer_gave_up_head
                   ELSE p.fsm_head END
FROM repartition_relays r
JOIN unnest($1::TEXT[], $2::TEXT[]) AS n(ours, theirs) ON right(r.topic, length(theirs)) = theirs
CROSS JOIN event_log_partitions p;

-- name: forget_strays
-- Positions of the intake, and of the store effect, are the bus's own, by its partitions and offsets,
-- and stay true: from them on messages have not been looked at. But those of strays, messages that were not in the partition
-- of their key, were held by the partition where such keys were then. All of them lay before the
-- others, and a new one begins where its first stray is read.
DELETE FROM bus_positions WHERE consumer = 'intake' AND home <> partition;

-- name: forget_members
-- All are dead.
DELETE FROM event_log_members;

-- name: forget_watermarks
-- All were at the heads.
DELETE FROM projection_watermarks WHERE partition_id LIKE 'state-committed/%';

-- name: write_watermarks
-- At the new heads: the projection shows all that is committed, however it is numbered (R7).
INSERT INTO projection_watermarks (partition_id, "offset", updated_at)
SELECT 'state-committed/' || partition, state_committed_head, now() FROM event_log_partitions;

-- name: write_number
-- $1 how many partitions. A new incarnation: who counts by the old one is refused.
UPDATE event_log_database SET partitions = $1, incarnation = gen_random_uuid();

-- name: move_outcomes
-- Remembered commits say where their entry is; a key's version is one entry.
UPDATE action_dedup_log d
SET outcome = jsonb_set(d.outcome, '{commit_offset}', to_jsonb(e."offset"))
FROM repartition_state_committed e
WHERE e.workflow_key = d.workflow_key AND e.version = d.version
  AND d.outcome ->> 'event' = 'StateCommitted'
  AND (d.outcome ->> 'commit_offset')::BIGINT <> e."offset";

-- name: counts
-- What there is by partition, to be compared before and after.
SELECT (SELECT count(*) FROM event_log_state_committed) AS state_committed,
       (SELECT count(*) FROM event_log_reducer_gave_up) AS reducer_gave_up,
       (SELECT count(*) FROM event_log_fsm_state_transitioned) AS fsm_state_transitioned,
       (SELECT count(*) FROM event_log_intent) AS intent,
       (SELECT count(*) FROM effects) AS effects,
       (SELECT count(*) FROM effect_log) AS effect_log,
       (SELECT count(*) FROM timers) AS timers;

-- name: analyze
-- What was known of them is of the old order.
ANALYZE event_log_state_committed, event_log_reducer_gave_up, event_log_fsm_state_transitioned,
        event_log_intent, effects, effect_log, timers;
