-- What every action id came to, for as long as its asker wanted it remembered (R3).
-- The presence of the row decides, not its expiry: a row past expires_at still answers.
CREATE TABLE action_dedup_log (
    workflow_key TEXT        NOT NULL,
    action_id    UUID        NOT NULL,
    request_hash TEXT        NOT NULL,
    result_hash  TEXT        NOT NULL,
    version      BIGINT,
    outcome      JSONB       NOT NULL,
    processed_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    expires_at   TIMESTAMPTZ NOT NULL,
    -- The id first: those that the bridge makes are ordered in time, and so come side by side.
    CONSTRAINT action_dedup_log_pkey PRIMARY KEY (action_id, workflow_key)
) WITH (vacuum_truncate = false); -- which locks commits out, to give back room that is needed again

CREATE INDEX idx_action_dedup_expires ON action_dedup_log (expires_at);

COMMENT ON COLUMN action_dedup_log.expires_at IS '''infinity'' when remembered for ever.';


-- Forget up to p_limit outcomes whose time is over, the oldest first, of those that expired at p_from
-- or later; return how many, and when the last of them expired.
--
-- No commit waits for this: commits only insert and look up, so the locks on deleted rows are in
-- nobody's way. A commit that looks up an id while its row goes either still finds it or does not,
-- and both are right: its time is over (R3).
-- One cleaner works at a time, whatever number of processes there are: the others find nothing to do.
-- A row is addressed by its place (ctid), so no key is searched for. It is what this statement's own
-- snapshot saw there: nobody updates these rows, and a place is not used again while a snapshot needs
-- it.
-- p_from spares the next batch the dead entries that the last one left at the beginning of the index,
-- which stay there until a vacuum: walking over all of them each time takes longer than to delete.
-- Planning: as with the commit function, the index is the way at any size.
CREATE FUNCTION action_dedup_cleanup_expired(
    p_limit BIGINT, p_from TIMESTAMPTZ, OUT forgotten BIGINT, OUT reached TIMESTAMPTZ
)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
BEGIN
    forgotten := 0;
    IF NOT pg_try_advisory_xact_lock(hashtext('omninode_bridge.cleanup_expired')) THEN
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM action_dedup_log
        WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM action_dedup_log
            WHERE expires_at >= p_from AND expires_at < now()
            ORDER BY expires_at LIMIT p_limit))
        RETURNING expires_at
    )
    SELECT count(*), max(expires_at) INTO forgotten, reached FROM gone;
END $$;
