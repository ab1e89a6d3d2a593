-- Actions that are not due yet, and how actions get into a partition's action log, now or later.

CREATE TABLE timers (
    partition    INT         NOT NULL,
    due_at       TIMESTAMPTZ NOT NULL,
    timer_number BIGINT      NOT NULL GENERATED ALWAYS AS IDENTITY,
    workflow_key TEXT        NOT NULL,
    action_id    UUID        NOT NULL,
    body         JSON        NOT NULL,
    CONSTRAINT timers_pkey PRIMARY KEY (partition, due_at, timer_number)
);

COMMENT ON COLUMN timers.timer_number IS
    'Only orders those that are due at one moment; nobody reads it as a log, so gaps do not matter.';


-- Put actions into the action log under the lock of its head, which the caller holds: p_here, p_head
-- and p_end are where the row is and what it says.
CREATE FUNCTION event_log_write_actions(
    p_partition INT, p_here TID, p_head BIGINT, p_end BIGINT, p_segment BIGINT,
    p_keys TEXT[], p_ids UUID[], p_bodies TEXT[]
) RETURNS VOID
LANGUAGE plpgsql AS $$
DECLARE
    segment_at BIGINT := p_end;
BEGIN
    WHILE p_head + cardinality(p_keys) > segment_at LOOP
        segment_at := event_log_add_segment('action', p_partition, segment_at, p_segment);
    END LOOP;
    INSERT INTO event_log_action (partition, "offset", workflow_key, action_id, body)
    SELECT p_partition, p_head + a.n - 1, a.key, a.id, a.body::JSON
    FROM unnest(p_keys, p_ids, p_bodies) WITH ORDINALITY AS a(key, id, body, n);
    UPDATE event_log_action_heads
    SET action_head = p_head + cardinality(p_keys), action_end = segment_at
    WHERE ctid = p_here;
END $$;


-- Put actions into the action log under the lock of its head, as above; but those with a p_due_at that
-- is still to come, by the clock of this database, become timers (p_due_at is NULL where none has
-- one). Of actions that come from elsewhere, those at p_offsets below p_seen are left out: they are
-- here. Returns how many were put.
CREATE FUNCTION event_log_put_actions(
    p_partition INT, p_here TID, p_head BIGINT, p_end BIGINT, p_segment BIGINT,
    p_keys TEXT[], p_ids UUID[], p_bodies TEXT[], p_due_at TIMESTAMPTZ[],
    p_offsets BIGINT[], p_seen BIGINT
) RETURNS INT
LANGUAGE plpgsql AS $$
DECLARE
    now_keys   TEXT[];
    now_ids    UUID[];
    now_bodies TEXT[];
    this_time  TIMESTAMPTZ := clock_timestamp();
    later      INT := 0;
BEGIN
    SELECT array_agg(a.key ORDER BY a.n), array_agg(a.id ORDER BY a.n),
           array_agg(a.body ORDER BY a.n)
    INTO now_keys, now_ids, now_bodies
    FROM unnest(p_keys, p_ids, p_bodies, p_due_at) WITH ORDINALITY AS a(key, id, body, due_at, n)
    WHERE (p_seen IS NULL OR p_offsets[a.n] >= p_seen)
      AND (a.due_at IS NULL OR a.due_at <= this_time);
    IF now_keys IS NOT NULL THEN
        PERFORM event_log_write_actions(p_partition, p_here, p_head, p_end, p_segment,
                                        now_keys, now_ids, now_bodies);
    END IF;
    IF p_due_at IS NOT NULL THEN
        INSERT INTO timers (partition, due_at, workflow_key, action_id, body)
        SELECT p_partition, a.due_at, a.key, a.id, a.body::JSON
        FROM unnest(p_keys, p_ids, p_bodies, p_due_at) WITH ORDINALITY
            AS a(key, id, body, due_at, n)
        WHERE (p_seen IS NULL OR p_offsets[a.n] >= p_seen) AND a.due_at > this_time
        ORDER BY a.n;
        GET DIAGNOSTICS later = ROW_COUNT;
    END IF;
    RETURN coalesce(cardinality(now_keys), 0) + later;
END $$;


-- Append actions to a partition's action log, in order, or to its timers; return how many were new.
--
-- With a source (R10): p_offsets are the entries of the intent log of p_source that the actions come
-- from, p_next the position behind the last entry looked at. The position is stored in this same
-- transaction, under the lock of its own row, so of two dispatchers with the same entries the
-- second finds the position past them and appends nothing: each entry is taken over exactly once.
--
-- p_incarnation is by which the caller counts partitions. One who stood still while the number
-- changed would put keys into the wrong partition, or take over entries a second time by their old
-- offsets: it is refused (OB002).
CREATE FUNCTION event_log_append_actions(
    p_partition INT, p_keys TEXT[], p_ids UUID[], p_bodies TEXT[], p_due_at TIMESTAMPTZ[],
    p_segment BIGINT,
    p_source INT DEFAULT NULL, p_next BIGINT DEFAULT NULL, p_offsets BIGINT[] DEFAULT NULL,
    p_incarnation UUID DEFAULT NULL
) RETURNS INT
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    here        TID;
    head        BIGINT;
    segment_at  BIGINT;
    position_at TID;
    seen        BIGINT;
BEGIN
    SELECT ctid, action_head, action_end INTO here, head, segment_at
    FROM event_log_action_heads WHERE partition BETWEEN p_partition AND p_partition
    ORDER BY partition DESC LIMIT 1 FOR UPDATE;
    PERFORM event_log_require_incarnation(p_incarnation);
    IF here IS NULL THEN
        RAISE EXCEPTION 'there is no partition %', p_partition USING ERRCODE = 'no_data_found';
    END IF;
    IF p_source IS NOT NULL THEN
        SELECT ctid, next INTO STRICT position_at, seen FROM event_log_positions
        WHERE topic = 'intent' AND partition = p_source
          AND consumer = 'dispatcher' AND home BETWEEN p_partition AND p_partition
        ORDER BY home DESC LIMIT 1 FOR UPDATE;
        IF seen >= p_next THEN
            RETURN 0;
        END IF;
        UPDATE event_log_positions SET next = p_next, updated_at = now() WHERE ctid = position_at;
    END IF;
    RETURN event_log_put_actions(p_partition, here, head, segment_at, p_segment,
                                 p_keys, p_ids, p_bodies, p_due_at, p_offsets, seen);
END $$;


-- Append actions that stood on a bus's topic, exactly once; return how many were new, for which
-- incarnation of the topic this position holds (if that is not p_incarnation, nothing was done), and
-- where in the log the first one stands: behind it the others, but for those that became timers.
--
-- The messages were read from p_first on, the actions stood at p_offsets in partition p_source of
-- p_topic, and p_next is the position behind the last message looked at. As with a dispatcher, the
-- position is stored in the transaction that appends, under the lock of its own row, and what lies
-- below it is left out: of two readers with the same messages, whichever owned the partition, each
-- message is taken over once. Both read on from a position that was stored, so what they bring begins
-- at the stored position or before it, and the order is that of the topic. Who would leave a gap is
-- refused; only where nothing was ever taken over from p_source does a position begin at p_first.
--
-- p_log is the incarnation of our log by which the caller counts partitions (as p_incarnation of
-- event_log_append_actions).
CREATE FUNCTION bus_take_over(
    p_partition INT, p_keys TEXT[], p_ids UUID[], p_bodies TEXT[], p_due_at TIMESTAMPTZ[],
    p_segment BIGINT,
    p_topic TEXT, p_source INT, p_incarnation TEXT, p_first BIGINT, p_next BIGINT,
    p_offsets BIGINT[], p_log UUID,
    OUT added INT, OUT stored TEXT, OUT first BIGINT
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    here        TID;
    head        BIGINT;
    segment_at  BIGINT;
    position_at TID;
    seen        BIGINT;
BEGIN
    added := 0;
    SELECT ctid, action_head, action_end INTO here, head, segment_at
    FROM event_log_action_heads WHERE partition BETWEEN p_partition AND p_partition
    ORDER BY partition DESC LIMIT 1 FOR UPDATE;
    PERFORM event_log_require_incarnation(p_log);
    IF here IS NULL THEN
        RAISE EXCEPTION 'there is no partition %', p_partition USING ERRCODE = 'no_data_found';
    END IF;
    SELECT ctid, next, incarnation INTO position_at, seen, stored FROM bus_positions
    WHERE consumer = 'intake' AND topic = p_topic AND partition = p_source
      AND home BETWEEN p_partition AND p_partition
    ORDER BY home DESC LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO bus_positions (consumer, topic, partition, home, incarnation, next)
        VALUES ('intake', p_topic, p_source, p_partition, p_incarnation, p_first)
        RETURNING ctid, next, incarnation INTO position_at, seen, stored;
    END IF;
    IF stored <> p_incarnation OR seen >= p_next THEN
        RETURN;
    END IF;
    IF seen < p_first AND p_source = p_partition THEN
        RAISE EXCEPTION 'messages from % to % of %/% were left out',
            seen, p_first, p_topic, p_source USING ERRCODE = 'OB001';
    END IF;
    UPDATE bus_positions SET next = p_next, updated_at = now() WHERE ctid = position_at;
    first := head;
    added := event_log_put_actions(p_partition, here, head, segment_at, p_segment,
                                   p_keys, p_ids, p_bodies, p_due_at, p_offsets, seen);
END $$;


-- Move up to p_limit actions that are due from the timers into the action log, those due first
-- first; return how many, and how many seconds from now the next one is due (NULL: there is none).
--
-- Exactly once: a timer goes in the transaction that appends its action, and whoever fires holds the
-- lock of the action head. Of two at once the second waits, and then no longer finds what the first
-- one took (a statement after a lock sees what was committed before it).
CREATE FUNCTION timers_fire(
    p_partition INT, p_limit INT, p_segment BIGINT, OUT fired INT, OUT next_s FLOAT8
)
LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    here       TID;
    head       BIGINT;
    segment_at BIGINT;
    due_keys   TEXT[];
    due_ids    UUID[];
    due_bodies TEXT[];
BEGIN
    fired := 0;
    next_s := extract(EPOCH FROM (SELECT min(due_at) FROM timers WHERE partition = p_partition)
                                 - clock_timestamp());
    IF next_s IS NULL OR next_s > 0 THEN
        RETURN;
    END IF;
    SELECT ctid, action_head, action_end INTO STRICT here, head, segment_at
    FROM event_log_action_heads WHERE partition BETWEEN p_partition AND p_partition
    ORDER BY partition DESC LIMIT 1 FOR UPDATE;
    WITH due AS (
        SELECT due_at, timer_number FROM timers
        WHERE partition = p_partition AND due_at <= clock_timestamp()
        ORDER BY due_at, timer_number LIMIT p_limit
    ), gone AS (
        DELETE FROM timers t USING due
        WHERE t.partition = p_partition
          AND t.due_at = due.due_at AND t.timer_number = due.timer_number
        RETURNING t.due_at, t.timer_number, t.workflow_key, t.action_id, t.body::TEXT AS body
    )
    SELECT array_agg(g.workflow_key ORDER BY g.due_at, g.timer_number),
           array_agg(g.action_id ORDER BY g.due_at, g.timer_number),
           array_agg(g.body ORDER BY g.due_at, g.timer_number)
    INTO due_keys, due_ids, due_bodies
    FROM gone g;
    IF due_keys IS NOT NULL THEN
        PERFORM event_log_write_actions(p_partition, here, head, segment_at, p_segment,
                                        due_keys, due_ids, due_bodies);
        fired := cardinality(due_keys);
    END IF;
    next_s := extract(EPOCH FROM (SELECT min(due_at) FROM timers WHERE partition = p_partition)
                                 - clock_timestamp());
END $$;
