-- Effects: what became of intents that are to be carried out in the world.
--
-- The `effects` consumer of the intent log has a position like any other. Most intents are finished
-- soon after they were read: they get a row in effect_log, and the position passes them. What is not
-- finished when the position passes it is *parked*: copied into effects, with the time it is due.
-- So every intent below the position is finished or parked, and the log behind it may go.
--
-- The fast way only appends, and moves one position a batch: a snapshot that somebody holds for long
-- makes nothing slower but the parking.

CREATE TABLE effects (
    partition    INT         NOT NULL,
    "offset"     BIGINT      NOT NULL,
    intent_id    UUID        NOT NULL,
    intent_type  TEXT        NOT NULL,
    target       TEXT        NOT NULL,
    workflow_key TEXT        NOT NULL,
    action_id    UUID        NOT NULL,
    committed_at TIMESTAMPTZ NOT NULL,
    body         JSON        NOT NULL,
    status       TEXT        NOT NULL,
    attempts     INT         NOT NULL,
    redriven     INT         NOT NULL DEFAULT 0,
    due_at       TIMESTAMPTZ NOT NULL,
    detail       TEXT        NOT NULL,
    CONSTRAINT effects_pkey PRIMARY KEY (partition, "offset"),
    CONSTRAINT effects_status CHECK (status IN ('waiting', 'dead'))
);

COMMENT ON TABLE effects IS
    'Intents that wait for their time, their next attempt or a handler, and dead ones.';

CREATE INDEX idx_effects_waiting ON effects (partition, intent_type, due_at)
    WHERE status = 'waiting';
-- Those of one key and type, in order: the first one holds back the others where that was asked for.
CREATE INDEX idx_effects_order ON effects (partition, intent_type, workflow_key, "offset")
    WHERE status = 'waiting';
CREATE INDEX idx_effects_dead ON effects (intent_type, partition, "offset") WHERE status = 'dead';
CREATE INDEX idx_effects_intent ON effects USING hash (intent_id);

CREATE TABLE effect_log (
    partition    INT         NOT NULL,
    "offset"     BIGINT      NOT NULL,
    redriven     INT         NOT NULL,
    intent_id    UUID        NOT NULL,
    intent_type  TEXT        NOT NULL,
    workflow_key TEXT        NOT NULL,
    action_id    UUID        NOT NULL,
    status       TEXT        NOT NULL,
    attempts     INT         NOT NULL,
    detail       TEXT        NOT NULL,
    finished_at  TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT effect_log_pkey PRIMARY KEY (partition, "offset", redriven),
    CONSTRAINT effect_log_status CHECK (status IN ('done', 'dead', 'cancelled'))
);

COMMENT ON TABLE effect_log IS 'How each effect ended: history.';

CREATE INDEX idx_effect_log_action ON effect_log USING hash (action_id);

-- A process that does nothing but effects takes those of a partition whose owner does none.
ALTER TABLE event_log_partitions ADD COLUMN effects_owner UUID, ADD COLUMN effects_member UUID;

COMMENT ON COLUMN event_log_partitions.effects_owner IS
    'The token of who carries out effects apart from the partition''s owner; NULL: the owner may.';
COMMENT ON COLUMN event_log_partitions.effects_member IS
    'Which process carries out the effects: they are taken from nobody who is there.';


-- Settle a batch of one partition's effects: those that ended, those that are parked, the follow-up
-- actions and answers of those that ended, and the position. Returns the offsets of those that ended
-- in this call, or NULL to who is not the owner, of whom nothing is written (R12): the owner is who
-- has the effects apart or, where nobody has, the partition's.
--
-- p_* are what ended; p_unparked those of them that had been parked. p_parked_* are due at
-- p_parked_due_at, or p_parked_due_s seconds from now. p_follow_* are intents, each of the ended
-- effect at p_follow_of.
--
-- Why it may be called twice with the same batch, as after a lost reply: the partition's row is
-- locked first, so calls are serial. What ended has its row in effect_log, by whose key the second
-- call finds it: it writes no follow-ups again, and parks nothing that has ended. To park again what
-- is parked sets the same values. The position only ever grows.
-- A handler that writes to this database in the transaction of this call is undone with it, when the
-- effect turns out to have ended before: so its writes are there exactly once.
CREATE FUNCTION effects_settle_v1(
    p_partition INT, p_owner UUID, p_segment BIGINT, p_next BIGINT,
    p_offsets BIGINT[], p_redriven INT[], p_ids UUID[], p_types TEXT[], p_keys TEXT[],
    p_actions UUID[], p_statuses TEXT[], p_attempts INT[], p_details TEXT[], p_unparked BIGINT[],
    p_parked_offsets BIGINT[], p_parked_redriven INT[], p_parked_statuses TEXT[],
    p_parked_attempts INT[], p_parked_due_at TIMESTAMPTZ[], p_parked_due_s FLOAT8[],
    p_parked_details TEXT[],
    p_follow_of BIGINT[], p_follow_ids UUID[], p_follow_types TEXT[], p_follow_targets TEXT[],
    p_follow_keys TEXT[], p_follow_actions UUID[], p_follow_bodies TEXT[]
) RETURNS BIGINT[]
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off
AS $$
DECLARE
    here         TID;
    actual_owner UUID;
    head         BIGINT;
    seen         BIGINT;
    segment_at   BIGINT;
    ended        BIGINT[];
    follow_ups   INT := 0;
BEGIN
    SELECT ctid, coalesce(effects_owner, owner), intent_head, intent_end
    INTO here, actual_owner, head, segment_at
    FROM event_log_partitions WHERE partition BETWEEN p_partition AND p_partition
    ORDER BY partition DESC LIMIT 1 FOR UPDATE;
    IF p_owner IS NOT NULL AND p_owner IS DISTINCT FROM actual_owner THEN
        RETURN NULL;
    END IF;

    WITH new AS (
        INSERT INTO effect_log (partition, "offset", redriven, intent_id, intent_type, workflow_key,
                                action_id, status, attempts, detail)
        SELECT p_partition, e.at, e.redriven, e.id, e.type, e.key, e.action, e.status, e.attempts,
               e.detail
        FROM unnest(p_offsets, p_redriven, p_ids, p_types, p_keys, p_actions, p_statuses,
                    p_attempts, p_details)
            AS e(at, redriven, id, type, key, action, status, attempts, detail)
        ON CONFLICT (partition, "offset", redriven) DO NOTHING
        RETURNING "offset"
    )
    SELECT coalesce(array_agg("offset"), '{}') INTO ended FROM new;

    IF cardinality(p_unparked) > 0 THEN
        DELETE FROM effects WHERE partition = p_partition AND "offset" = ANY (p_unparked);
    END IF;

    IF cardinality(p_parked_offsets) > 0 THEN
        UPDATE effects e
        SET status = p.status, attempts = p.attempts, detail = p.detail,
            due_at = coalesce(p.due_at, clock_timestamp() + p.due_s * INTERVAL '1 second')
        FROM unnest(p_parked_offsets, p_parked_redriven, p_parked_statuses, p_parked_attempts,
                    p_parked_due_at, p_parked_due_s, p_parked_details)
            AS p(at, redriven, status, attempts, due_at, due_s, detail)
        WHERE e.partition = p_partition AND e."offset" = p.at AND e.redriven = p.redriven;
        INSERT INTO effects (partition, "offset", intent_id, intent_type, target, workflow_key,
                             action_id, committed_at, body, status, attempts, due_at, detail)
        SELECT i.partition, i."offset", i.intent_id, i.intent_type, i.target, i.workflow_key,
               i.action_id, i.committed_at, i.body, p.status, p.attempts,
               coalesce(p.due_at, clock_timestamp() + p.due_s * INTERVAL '1 second'), p.detail
        FROM unnest(p_parked_offsets, p_parked_redriven, p_parked_statuses, p_parked_attempts,
                    p_parked_due_at, p_parked_due_s, p_parked_details)
            AS p(at, redriven, status, attempts, due_at, due_s, detail)
        JOIN event_log_intent i ON i.partition = p_partition AND i."offset" = p.at
        WHERE p.redriven = 0
          AND NOT EXISTS (SELECT FROM effect_log l
                          WHERE l.partition = p_partition AND l."offset" = p.at AND l.redriven = 0
                            AND (p.status = 'waiting' OR NOT l."offset" = ANY (ended)))
        ON CONFLICT (partition, "offset") DO NOTHING;
    END IF;

    IF cardinality(p_follow_ids) > 0 AND cardinality(ended) > 0 THEN
        WHILE head + cardinality(p_follow_ids) > segment_at LOOP
            segment_at := event_log_add_segment('intent', p_partition, segment_at, p_segment);
        END LOOP;
        INSERT INTO event_log_intent
            (partition, "offset", intent_id, intent_type, target, workflow_key, action_id,
             committed_at, body)
        SELECT p_partition, head + row_number() OVER (ORDER BY f.n) - 1, f.id, f.type, f.target,
               f.key, f.action, clock_timestamp(), f.body::JSON
        FROM unnest(p_follow_of, p_follow_ids, p_follow_types, p_follow_targets, p_follow_keys,
                    p_follow_actions, p_follow_bodies) WITH ORDINALITY
            AS f(of_offset, id, type, target, key, action, body, n)
        WHERE f.of_offset = ANY (ended);
        GET DIAGNOSTICS follow_ups = ROW_COUNT;
        UPDATE event_log_partitions
        SET intent_head = head + follow_ups, intent_end = segment_at
        WHERE ctid = here;
    END IF;

    SELECT ctid, next INTO STRICT here, seen FROM event_log_positions
    WHERE topic = 'intent' AND partition = p_partition AND consumer = 'effects'
      AND home BETWEEN p_partition AND p_partition
    ORDER BY home DESC LIMIT 1 FOR UPDATE;
    IF seen < p_next THEN
        UPDATE event_log_positions SET next = p_next, updated_at = now() WHERE ctid = here;
    END IF;
    RETURN ended;
END $$;


-- Try a dead effect again, from its first attempt on; return whether it was dead. Twice at once: the
-- second finds it waiting.
CREATE FUNCTION effects_redrive(p_partition INT, p_intent_id UUID) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE effects
    SET status = 'waiting', attempts = 0, redriven = redriven + 1, due_at = clock_timestamp()
    WHERE partition = p_partition AND intent_id = p_intent_id AND status = 'dead';
    RETURN FOUND;
END $$;
