-- Partitions with their heads and leases, the log of every topic, positions, and the functions that
-- write them: the heart of the bridge (docs/architecture).
--
-- Words: a *head* is the next offset a topic of a partition will give; *low* is the first offset
-- that is still there; a *position* is the next offset a consumer will read. All begin at 1, so
-- position = head means caught up, and position < low means cut off (R6).
--
-- Rule 1: a transaction writes rows of one partition only (R11).
-- Rule 2: locks are taken in this order: the partition's row, its action head, positions.
-- Rule 3: rows that every batch updates are found from behind: `k BETWEEN x AND x ORDER BY k DESC
--     LIMIT 1`, and updated by their ctid, under the lock that was taken when they were found.
--     While somebody holds an old snapshot, no version that a row has had since can be cleaned away,
--     and a look-up by equality walks all of them, oldest first. An index keeps equal keys in the
--     order of their place in the table, and a table that cannot be cleaned grows at its end: so
--     from behind the newest comes first. (Between equal bounds and not `=`, because a planner that
--     knows a column to be constant drops the order.) Where versions lie elsewhere this is slower,
--     never wrong: one version is visible, whichever way one comes.

CREATE TABLE event_log_database (
    only_row    BOOLEAN     NOT NULL DEFAULT TRUE,
    incarnation UUID        NOT NULL DEFAULT gen_random_uuid(),
    partitions  INT         NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT event_log_database_pkey PRIMARY KEY (only_row),
    CONSTRAINT event_log_database_is_one_row CHECK (only_row),
    CONSTRAINT event_log_database_partitions CHECK (partitions BETWEEN 1 AND 1024)
);

COMMENT ON TABLE event_log_database IS
    'One row: how many partitions this database was created with, and the incarnation of its log.';

-- One narrow row a partition, updated by every commit: room for many HOT versions on its page.
CREATE TABLE event_log_partitions (
    partition            INT         NOT NULL,
    owner                UUID,
    owner_name           TEXT,
    lease_until          TIMESTAMPTZ,
    state_committed_head BIGINT      NOT NULL DEFAULT 1,
    reducer_gave_up_head BIGINT      NOT NULL DEFAULT 1,
    intent_head          BIGINT      NOT NULL DEFAULT 1,
    intent_low           BIGINT      NOT NULL DEFAULT 1,
    intent_end           BIGINT      NOT NULL DEFAULT 1,
    fsm_head             BIGINT      NOT NULL DEFAULT 1,
    CONSTRAINT event_log_partitions_pkey PRIMARY KEY (partition)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

COMMENT ON COLUMN event_log_partitions.intent_end IS
    'The first offset for which no segment has been made yet.';

-- Its own row, so that enqueuers do not wait for commits.
CREATE TABLE event_log_action_heads (
    partition   INT    NOT NULL,
    action_head BIGINT NOT NULL DEFAULT 1,
    action_low  BIGINT NOT NULL DEFAULT 1,
    action_end  BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT event_log_action_heads_pkey PRIMARY KEY (partition)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- Registered consumers and how far they have come. `partition` is the partition that is read,
-- `home` the one whose transactions move the position (R11): the dispatcher reads the intents of
-- one partition and moves a position in each partition it appends to.
CREATE TABLE event_log_positions (
    consumer      TEXT        NOT NULL,
    topic         TEXT        NOT NULL,
    partition     INT         NOT NULL,
    home          INT         NOT NULL,
    next          BIGINT      NOT NULL DEFAULT 1,
    registered_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT event_log_positions_pkey PRIMARY KEY (topic, partition, consumer, home),
    CONSTRAINT event_log_positions_topic CHECK (topic IN ('action', 'intent'))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- How far this log and a bus outside of it (Kafka) are in step. For the relay, `partition` is one of
-- ours, `home` is the same, and `next` is the next entry of it that the bus has not confirmed. For
-- the intake, `partition` is one of the bus's topic, `next` is the next message of it that the
-- partition `home` has not taken over; `home` is another one only for messages that stood in the
-- wrong partition. A position holds for one incarnation of the bus's topic, which is its cluster's id
-- and its own: a topic that was deleted and made again has the same name and is another one. For the
-- store effect, `next` is the next commit that was sent by the bus and not looked at: a hint.
CREATE TABLE bus_positions (
    consumer    TEXT        NOT NULL,
    topic       TEXT        NOT NULL,
    partition   INT         NOT NULL,
    home        INT         NOT NULL,
    incarnation TEXT        NOT NULL,
    next        BIGINT      NOT NULL,
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    CONSTRAINT bus_positions_pkey PRIMARY KEY (topic, partition, consumer, home),
    CONSTRAINT bus_positions_consumer CHECK (consumer IN ('relay', 'intake', 'store-effect'))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- History: kept. `body` is JSON rather than JSONB: it keeps the bytes that were hashed, and costs
-- a third of the parsing.
CREATE TABLE event_log_state_committed (
    partition    INT         NOT NULL,
    "offset"     BIGINT      NOT NULL,
    workflow_key TEXT        NOT NULL,
    version      BIGINT      NOT NULL,
    action_id    UUID        NOT NULL,
    committed_at TIMESTAMPTZ NOT NULL,
    body         JSON        NOT NULL,
    CONSTRAINT event_log_state_committed_pkey PRIMARY KEY (partition, "offset")
);

CREATE UNIQUE INDEX idx_state_committed_history
    ON event_log_state_committed (workflow_key, version);
-- A hash index: only ever asked for equality, and random ids cost a tree 20 % of the hot rate.
CREATE INDEX idx_state_committed_action ON event_log_state_committed USING hash (action_id);

CREATE TABLE event_log_reducer_gave_up (
    partition    INT         NOT NULL,
    "offset"     BIGINT      NOT NULL,
    workflow_key TEXT        NOT NULL,
    version      BIGINT      NOT NULL,
    action_id    UUID        NOT NULL,
    given_up_at  TIMESTAMPTZ NOT NULL,
    body         JSON        NOT NULL,
    CONSTRAINT event_log_reducer_gave_up_pkey PRIMARY KEY (partition, "offset")
);

CREATE INDEX idx_reducer_gave_up_action ON event_log_reducer_gave_up USING hash (action_id);
CREATE INDEX idx_reducer_gave_up_reason
    ON event_log_reducer_gave_up ((body ->> 'reason'), partition, "offset");

-- Each transition of a state machine, as its reducer tells it: an index into history by what it means.
CREATE TABLE event_log_fsm_state_transitioned (
    partition    INT         NOT NULL,
    "offset"     BIGINT      NOT NULL,
    workflow_key TEXT        NOT NULL,
    action_id    UUID        NOT NULL,
    committed_at TIMESTAMPTZ NOT NULL,
    body         JSON        NOT NULL,
    CONSTRAINT event_log_fsm_state_transitioned_pkey PRIMARY KEY (partition, "offset")
);

CREATE INDEX idx_fsm_state_transitioned_key
    ON event_log_fsm_state_transitioned (workflow_key, partition, "offset");

-- Transient topics: partitioned by partition, then by offset into segments that are dropped whole.
CREATE TABLE event_log_action (
    partition    INT         NOT NULL,
    "offset"     BIGINT      NOT NULL,
    workflow_key TEXT        NOT NULL,
    action_id    UUID        NOT NULL,
    enqueued_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    body         JSON        NOT NULL,
    CONSTRAINT event_log_action_pkey PRIMARY KEY (partition, "offset")
) PARTITION BY LIST (partition);

CREATE TABLE event_log_intent (
    partition    INT         NOT NULL,
    "offset"     BIGINT      NOT NULL,
    intent_id    UUID        NOT NULL,
    intent_type  TEXT        NOT NULL,
    target       TEXT        NOT NULL,
    workflow_key TEXT        NOT NULL,
    action_id    UUID        NOT NULL,
    committed_at TIMESTAMPTZ NOT NULL,
    body         JSON        NOT NULL,
    CONSTRAINT event_log_intent_pkey PRIMARY KEY (partition, "offset")
) PARTITION BY LIST (partition);


-- Make the partitions of a new database; on an existing one, say how many it has.
-- Fixed for good: the partition of a key, and so its order, depends on the number.
CREATE FUNCTION event_log_create_partitions(p_partitions INT) RETURNS INT
LANGUAGE plpgsql AS $$
DECLARE
    existing INT;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('omninode_bridge.partitions'));
    SELECT partitions INTO existing FROM event_log_database;
    IF FOUND THEN
        RETURN existing;
    END IF;
    INSERT INTO event_log_database (partitions) VALUES (p_partitions);
    FOR n IN 0 .. p_partitions - 1 LOOP
        INSERT INTO event_log_partitions (partition) VALUES (n);
        INSERT INTO event_log_action_heads (partition) VALUES (n);
        EXECUTE format('CREATE TABLE event_log_action_%s PARTITION OF event_log_action'
                       ' FOR VALUES IN (%s) PARTITION BY RANGE ("offset")', n, n);
        EXECUTE format('CREATE TABLE event_log_intent_%s PARTITION OF event_log_intent'
                       ' FOR VALUES IN (%s) PARTITION BY RANGE ("offset")', n, n);
        INSERT INTO event_log_positions (consumer, topic, partition, home)
        VALUES ('reducer', 'action', n, n);
        -- One position a target partition: each keeps how far it has taken over from here.
        INSERT INTO event_log_positions (consumer, topic, partition, home)
        SELECT 'dispatcher', 'intent', n, target FROM generate_series(0, p_partitions - 1) target;
        INSERT INTO event_log_positions (consumer, topic, partition, home)
        VALUES ('effects', 'intent', n, n);
    END LOOP;
    RETURN p_partitions;
END $$;


-- Make the segment of a transient topic that begins at p_first, and return the offset behind it.
-- The table is made apart and then attached, which needs SHARE UPDATE EXCLUSIVE on its parent:
-- readers and writers go on. The caller holds the row with the head, so nobody makes it twice.
CREATE FUNCTION event_log_add_segment(
    p_topic TEXT, p_partition INT, p_first BIGINT, p_entries BIGINT
) RETURNS BIGINT
LANGUAGE plpgsql AS $$
DECLARE
    parent  TEXT   := format('event_log_%s_%s', p_topic, p_partition);
    segment TEXT   := format('event_log_%s_%s_%s', p_topic, p_partition, p_first);
    behind  BIGINT := p_first + p_entries;
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
                   ' WITH (autovacuum_enabled = false)', segment, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                   parent, segment, p_first, behind);
    RETURN behind;
END $$;


-- The commit: one batch of one partition becomes durable, or nothing does (R2).
--
-- Arguments: p_owner is the token of the lease (NULL: a committer beside the owner); p_position and
-- p_next move the worker's position in its action log (NULL: they stay). p_read_* are all keys
-- that were read, with the versions the fold started from. p_state_* are the new states.
-- p_entry_* are the absorbed actions in the order of the log, p_gave_up_* the given-up ones,
-- p_intent_* the intents in order, p_fsm_* the transitions of state machines. p_remember_s is in
-- seconds; NULL is for ever. p_redrive_* are those actions that were given up once and are tried
-- again: a give-up remembered of one of them is not known, but replaced. An id is a key's own: that
-- another key has the same one means nothing.
--
-- Returns the first offset of each topic; or, when it refuses, `refusal` and nothing else.
--
-- Why this is right.
-- (a) Every committer first locks the partition's row, so commits of a partition are serial: between
--     our lock and our end nobody else commits here. Heads advance in this transaction only under
--     that lock, so offset order is commit order and offsets have no gaps (R5, R6).
-- (b) READ COMMITTED takes a new snapshot for each statement, so each check after the lock sees all
--     that was committed before it. A check that passes stays true until we end, by (a).
-- (c) A new owner takes a partition by writing its token into this row. If it came first, the check
--     of the token refuses us, whatever we bring, a rejection too (R12); if we came first, the
--     new owner waits for our end, and reads what we wrote.
-- (d) The version of *every key read* is checked: a rejection is a decision about a version as much
--     as a commit is.
-- (e) The ids are looked up under the lock, so an id has one outcome (R3), whichever process,
--     connection or retry it comes by. The primary key would refuse a second one in any case.
-- (f) All checks come before the first write, so a refusal writes nothing; everything is in one
--     transaction, so a crash at any line leaves all or nothing (R2).
--
-- Planning: the arrays have about as many elements as the batch, the tables may have any number of
-- rows, and a plan is made once a connection, possibly when the tables are empty: so it is told
-- that index look-ups are the way, at any size.
CREATE FUNCTION event_log_commit_v1(
    p_partition INT, p_owner UUID, p_lease INTERVAL, p_committed_at TIMESTAMPTZ, p_segment BIGINT,
    p_position BIGINT, p_next BIGINT,
    p_read_keys TEXT[], p_read_versions BIGINT[],
    p_state_keys TEXT[], p_state_versions BIGINT[], p_states TEXT[], p_schemas INT[],
    p_provenances TEXT[],
    p_entry_keys TEXT[], p_entry_versions BIGINT[], p_entry_ids UUID[], p_request_hashes TEXT[],
    p_result_hashes TEXT[], p_remember_s FLOAT8[], p_entries TEXT[],
    p_gave_up_keys TEXT[], p_gave_up_versions BIGINT[], p_gave_up_ids UUID[],
    p_gave_up_request_hashes TEXT[], p_gave_up_result_hashes TEXT[],
    p_gave_up_remember_s FLOAT8[], p_gave_up_outcomes TEXT[], p_gave_ups TEXT[],
    p_intent_ids UUID[], p_intent_types TEXT[], p_intent_targets TEXT[], p_intent_keys TEXT[],
    p_intent_actions UUID[], p_intents TEXT[],
    p_fsm_keys TEXT[], p_fsm_actions UUID[], p_fsm_transitions TEXT[],
    p_redrive_keys TEXT[], p_redrive_ids UUID[],
    OUT refusal JSONB, OUT state_committed_first BIGINT, OUT reducer_gave_up_first BIGINT,
    OUT intent_first BIGINT
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off SET enable_material = off
AS $$
DECLARE
    here         TID;
    position_at  TID;
    actual_owner UUID;
    segment_at   BIGINT;
    actual_next  BIGINT;
    fsm_first    BIGINT;
    is_moved     BOOLEAN := FALSE;
    stale        JSONB;
    known        JSONB;
    updated      INT;
    inserted     INT := 0;
    asked_at     TIMESTAMPTZ;
BEGIN
    SELECT ctid, owner, state_committed_head, reducer_gave_up_head, intent_head, intent_end, fsm_head
    INTO STRICT here, actual_owner, state_committed_first, reducer_gave_up_first, intent_first,
                segment_at, fsm_first
    FROM event_log_partitions WHERE partition BETWEEN p_partition AND p_partition
    ORDER BY partition DESC LIMIT 1 FOR UPDATE;

    IF p_owner IS NOT NULL AND p_owner IS DISTINCT FROM actual_owner THEN
        refusal := jsonb_build_object('not_owner', TRUE);
        RETURN;
    END IF;

    IF p_position IS NOT NULL THEN
        SELECT ctid, next INTO STRICT position_at, actual_next FROM event_log_positions
        WHERE topic = 'action' AND partition = p_partition
          AND consumer = 'reducer' AND home BETWEEN p_partition AND p_partition
        ORDER BY home DESC LIMIT 1 FOR UPDATE;
        is_moved := actual_next <> p_position;
    END IF;

    SELECT jsonb_object_agg(r.key, coalesce(w.version, 0)) INTO stale
    FROM unnest(p_read_keys, p_read_versions) AS r(key, version)
    LEFT JOIN LATERAL (
        SELECT version FROM workflow_state WHERE workflow_key BETWEEN r.key AND r.key
        ORDER BY workflow_key DESC LIMIT 1
    ) w ON TRUE
    WHERE coalesce(w.version, 0) <> r.version;

    SELECT jsonb_agg(jsonb_build_array(d.workflow_key, d.action_id)) INTO known
    FROM (SELECT * FROM unnest(p_entry_keys, p_entry_ids)
          UNION ALL
          SELECT * FROM unnest(p_gave_up_keys, p_gave_up_ids)) AS a(key, id)
    JOIN action_dedup_log d ON d.workflow_key = a.key AND d.action_id = a.id
    WHERE NOT (d.outcome ->> 'event' = 'ReducerGaveUp'
               AND EXISTS (SELECT FROM unnest(p_redrive_keys, p_redrive_ids) AS r(key, id)
                           WHERE r.key = d.workflow_key AND r.id = d.action_id));

    IF is_moved OR stale IS NOT NULL OR known IS NOT NULL THEN
        refusal := jsonb_build_object('moved', is_moved, 'stale', coalesce(stale, '{}'),
                                      'known', coalesce(known, '[]'));
        RETURN;
    END IF;

    IF cardinality(p_redrive_ids) > 0 THEN
        DELETE FROM action_dedup_log d
        USING unnest(p_redrive_keys, p_redrive_ids) AS r(key, id)
        WHERE d.workflow_key = r.key AND d.action_id = r.id;
    END IF;

    UPDATE workflow_state w
    SET version = s.version, state = s.state::JSONB, updated_at = p_committed_at,
        schema_version = s.schema, provenance = s.provenance::JSONB
    FROM unnest(p_state_keys, p_state_versions, p_states, p_schemas, p_provenances)
            AS s(key, version, state, schema, provenance)
    CROSS JOIN LATERAL (
        SELECT k.ctid AS here FROM workflow_state k WHERE k.workflow_key BETWEEN s.key AND s.key
        ORDER BY k.workflow_key DESC LIMIT 1
    ) AS at
    WHERE w.ctid = at.here;
    GET DIAGNOSTICS updated = ROW_COUNT;
    IF updated < cardinality(p_state_keys) THEN
        INSERT INTO workflow_state
            (workflow_key, version, state, updated_at, schema_version, provenance)
        SELECT s.key, s.version, s.state::JSONB, p_committed_at, s.schema, s.provenance::JSONB
        FROM unnest(p_state_keys, p_state_versions, p_states, p_schemas, p_provenances)
                AS s(key, version, state, schema, provenance)
        LEFT JOIN LATERAL (
            SELECT k.version FROM workflow_state k WHERE k.workflow_key BETWEEN s.key AND s.key
            ORDER BY k.workflow_key DESC LIMIT 1
        ) AS there ON TRUE
        WHERE there.version IS NULL;
        GET DIAGNOSTICS inserted = ROW_COUNT;
    END IF;
    IF updated + inserted <> cardinality(p_state_keys) THEN
        RAISE EXCEPTION '% of % states of partition % were written: somebody writes them who does not'
            ' hold its lock', updated + inserted, cardinality(p_state_keys), p_partition
            USING ERRCODE = 'OB001';
    END IF;

    INSERT INTO event_log_state_committed
        (partition, "offset", workflow_key, version, action_id, committed_at, body)
    SELECT p_partition, state_committed_first + e.n - 1, e.key, e.version, e.id, p_committed_at,
           e.body::JSON
    FROM unnest(p_entry_keys, p_entry_versions, p_entry_ids, p_entries) WITH ORDINALITY
        AS e(key, version, id, body, n);

    INSERT INTO action_dedup_log
        (workflow_key, action_id, request_hash, result_hash, version, outcome, expires_at)
    SELECT e.key, e.id, e.request_hash, e.result_hash, e.version,
           ('{"event":"StateCommitted","commit_offset":' || state_committed_first + e.n - 1
            || '}')::JSONB,
           coalesce(now() + e.remember_s * INTERVAL '1 second', 'infinity')
    FROM unnest(p_entry_keys, p_entry_ids, p_request_hashes, p_result_hashes, p_entry_versions,
                p_remember_s) WITH ORDINALITY
        AS e(key, id, request_hash, result_hash, version, remember_s, n);

    IF cardinality(p_gave_up_keys) > 0 THEN
        INSERT INTO event_log_reducer_gave_up
            (partition, "offset", workflow_key, version, action_id, given_up_at, body)
        SELECT p_partition, reducer_gave_up_first + g.n - 1, g.key, g.version, g.id,
               p_committed_at, g.body::JSON
        FROM unnest(p_gave_up_keys, p_gave_up_versions, p_gave_up_ids, p_gave_ups)
            WITH ORDINALITY AS g(key, version, id, body, n);
        INSERT INTO action_dedup_log
            (workflow_key, action_id, request_hash, result_hash, version, outcome, expires_at)
        SELECT g.key, g.id, g.request_hash, g.result_hash, g.version, g.outcome::JSONB,
               coalesce(now() + g.remember_s * INTERVAL '1 second', 'infinity')
        FROM unnest(p_gave_up_keys, p_gave_up_ids, p_gave_up_request_hashes,
                    p_gave_up_result_hashes, p_gave_up_versions, p_gave_up_outcomes,
                    p_gave_up_remember_s)
            AS g(key, id, request_hash, result_hash, version, outcome, remember_s);
    END IF;

    IF cardinality(p_intent_ids) > 0 THEN
        WHILE intent_first + cardinality(p_intent_ids) > segment_at LOOP
            segment_at := event_log_add_segment('intent', p_partition, segment_at, p_segment);
        END LOOP;
        -- Not the worker's clock: what is due some time after this commit is counted from here.
        asked_at := clock_timestamp();
        INSERT INTO event_log_intent
            (partition, "offset", intent_id, intent_type, target, workflow_key, action_id,
             committed_at, body)
        SELECT p_partition, intent_first + i.n - 1, i.id, i.type, i.target, i.key, i.action,
               asked_at, i.body::JSON
        FROM unnest(p_intent_ids, p_intent_types, p_intent_targets, p_intent_keys,
                    p_intent_actions, p_intents) WITH ORDINALITY
            AS i(id, type, target, key, action, body, n);
    END IF;

    IF cardinality(p_fsm_keys) > 0 THEN
        INSERT INTO event_log_fsm_state_transitioned
            (partition, "offset", workflow_key, action_id, committed_at, body)
        SELECT p_partition, fsm_first + t.n - 1, t.key, t.action, p_committed_at, t.body::JSON
        FROM unnest(p_fsm_keys, p_fsm_actions, p_fsm_transitions) WITH ORDINALITY
            AS t(key, action, body, n);
    END IF;

    IF p_position IS NOT NULL THEN
        UPDATE event_log_positions SET next = p_next, updated_at = now() WHERE ctid = position_at;
    END IF;

    UPDATE event_log_partitions
    SET state_committed_head = state_committed_first + cardinality(p_entry_keys),
        reducer_gave_up_head = reducer_gave_up_first + cardinality(p_gave_up_keys),
        intent_head = intent_first + cardinality(p_intent_ids),
        intent_end = segment_at,
        fsm_head = fsm_first + cardinality(p_fsm_keys),
        lease_until = CASE WHEN p_owner IS NULL THEN lease_until
                           ELSE clock_timestamp() + p_lease END
    WHERE ctid = here;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the row of partition % is not where it was locked', p_partition
            USING ERRCODE = 'OB001';
    END IF;
END $$;


-- Bring the projection of a partition from p_expected to p_next: rows and watermark together (R7).
-- Returns the watermark afterwards. Compare-and-set under the watermark's row lock: of two
-- materializers the second finds it moved and writes nothing. The version guard makes a repeat
-- harmless in any case. A step backwards is an error to be seen.
CREATE FUNCTION projection_apply(
    p_partition_id TEXT, p_expected BIGINT, p_next BIGINT,
    p_keys TEXT[], p_versions BIGINT[], p_tags TEXT[], p_last_actions TEXT[], p_namespaces TEXT[],
    p_updated_at TIMESTAMPTZ[], p_indices TEXT[], p_extras TEXT[]
) RETURNS BIGINT
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off SET enable_material = off
AS $$
DECLARE
    here      TID;
    watermark BIGINT;
BEGIN
    SELECT ctid, "offset" INTO here, watermark FROM projection_watermarks
    WHERE partition_id BETWEEN p_partition_id AND p_partition_id
    ORDER BY partition_id DESC LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO projection_watermarks (partition_id, "offset", updated_at)
        VALUES (p_partition_id, 1, now()) ON CONFLICT (partition_id) DO NOTHING;
        SELECT ctid, "offset" INTO STRICT here, watermark FROM projection_watermarks
        WHERE partition_id = p_partition_id FOR UPDATE;
    END IF;
    IF p_next < p_expected THEN
        RAISE EXCEPTION 'the watermark of % cannot go back from % to %',
            p_partition_id, p_expected, p_next USING ERRCODE = 'OB001';
    END IF;
    IF watermark <> p_expected THEN
        RETURN watermark;
    END IF;
    -- Rows of this partition are written under its watermark's lock only: what is found stays.
    WITH row AS (
        SELECT r.*, at.here
        FROM unnest(p_keys, p_versions, p_tags, p_last_actions, p_namespaces, p_updated_at,
                    p_indices, p_extras)
            AS r(key, version, tag, last_action, namespace, updated_at, indices, extras)
        LEFT JOIN LATERAL (
            SELECT k.ctid AS here FROM workflow_projection k
            WHERE k.workflow_key BETWEEN r.key AND r.key ORDER BY k.workflow_key DESC LIMIT 1
        ) AS at ON TRUE
    ), known AS (
        UPDATE workflow_projection w
        SET version = r.version, tag = r.tag, last_action = r.last_action,
            namespace = r.namespace, updated_at = r.updated_at, indices = r.indices::JSONB,
            extras = r.extras::JSONB
        FROM row r WHERE w.ctid = r.here AND w.version < r.version
    )
    INSERT INTO workflow_projection
        (workflow_key, version, tag, last_action, namespace, updated_at, indices, extras)
    SELECT r.key, r.version, r.tag, r.last_action, r.namespace, r.updated_at, r.indices::JSONB,
           r.extras::JSONB
    FROM row r WHERE r.here IS NULL;
    UPDATE projection_watermarks SET "offset" = p_next, updated_at = now() WHERE ctid = here;
    RETURN p_next;
END $$;


-- Lock the row that holds the low of a transient topic.
CREATE FUNCTION event_log_lock_low(p_topic TEXT, p_partition INT) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    IF p_topic = 'action' THEN
        PERFORM FROM event_log_action_heads WHERE partition = p_partition FOR UPDATE;
    ELSE
        PERFORM FROM event_log_partitions WHERE partition = p_partition FOR UPDATE;
    END IF;
END $$;


-- The offset of a transient topic that every registered consumer, and the head, has come to.
CREATE FUNCTION event_log_behind_consumers(p_topic TEXT, p_partition INT) RETURNS BIGINT
LANGUAGE sql AS $$
    SELECT least(min(r.next), (SELECT CASE p_topic WHEN 'action' THEN a.action_head
                                                   ELSE p.intent_head END
                               FROM event_log_partitions p
                               JOIN event_log_action_heads a USING (partition)
                               WHERE p.partition = p_partition))
    FROM event_log_positions r WHERE r.topic = p_topic AND r.partition = p_partition
$$;


-- Register a consumer of a transient topic from its low on; one that is known keeps its position.
CREATE FUNCTION event_log_register(
    p_consumer TEXT, p_topic TEXT, p_partition INT, p_home INT
) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM event_log_lock_low(p_topic, p_partition);
    INSERT INTO event_log_positions (consumer, topic, partition, home, next)
    SELECT p_consumer, p_topic, p_partition, p_home,
           CASE p_topic WHEN 'action' THEN a.action_low ELSE p.intent_low END
    FROM event_log_partitions p JOIN event_log_action_heads a USING (partition)
    WHERE p.partition = p_partition
    ON CONFLICT (topic, partition, consumer, home) DO NOTHING;
END $$;


-- Drop the first segment of a transient topic if all of it lies behind all registered consumers and
-- behind the head; return how many went, 0 or 1. One at a time, since commits wait meanwhile.
--
-- Nothing is locked unless there is something to drop. Then the row with low is locked and the
-- positions are read again: who registers a consumer locks that row too, so a new consumer either
-- is seen here, or begins at the low that we leave. Positions and heads only ever grow: a segment
-- that is behind them all stays behind them.
-- Dropping needs ACCESS EXCLUSIVE on the parent: the caller sets lock_timeout, and tries again
-- another time rather than making commits wait.
CREATE FUNCTION event_log_drop_segments(p_topic TEXT, p_partition INT) RETURNS INT
LANGUAGE plpgsql AS $$
DECLARE
    parent  TEXT   := format('event_log_%s_%s', p_topic, p_partition);
    behind  BIGINT := event_log_behind_consumers(p_topic, p_partition);
    segment RECORD;
BEGIN
    IF p_topic NOT IN ('action', 'intent') THEN
        RAISE EXCEPTION 'topic % is history: it is not cut off', p_topic USING ERRCODE = 'OB001';
    END IF;
    SELECT c.oid, c.oid::regclass::TEXT AS name,
           (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''?(\d+)''?\)'))[1]::BIGINT
               AS segment_end
    INTO segment
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = parent::regclass
    ORDER BY segment_end LIMIT 1;
    IF NOT FOUND OR segment.segment_end > behind THEN
        RETURN 0;
    END IF;
    PERFORM event_log_lock_low(p_topic, p_partition);
    -- Another process may have been before us at the lock.
    IF segment.segment_end > event_log_behind_consumers(p_topic, p_partition)
       OR NOT EXISTS (SELECT FROM pg_class WHERE oid = segment.oid) THEN
        RETURN 0;
    END IF;
    EXECUTE format('DROP TABLE %s', segment.name);
    IF p_topic = 'action' THEN
        UPDATE event_log_action_heads SET action_low = segment.segment_end
        WHERE partition = p_partition;
    ELSE
        UPDATE event_log_partitions SET intent_low = segment.segment_end
        WHERE partition = p_partition;
    END IF;
    RETURN 1;
END $$;
