-- Processes that share the partitions of this database.
--
-- A row belongs to a process, not to a partition, and decides nothing: who may commit is decided by
-- the token in event_log_partitions alone (R12). It only says between how many the partitions are to
-- be shared, so it may be late, or wrong for a while. It is read and written apart from every
-- commit (R11 is about transactions that change a partition).

-- Few rows, each updated four times a second: room for many HOT versions on a page.
CREATE TABLE event_log_members (
    member     UUID        NOT NULL,
    name       TEXT        NOT NULL,
    app        TEXT        NOT NULL,
    roles      TEXT[]      NOT NULL,
    over_bus   BOOLEAN     NOT NULL,
    joined_at  TIMESTAMPTZ NOT NULL,
    seen_until TIMESTAMPTZ NOT NULL,
    CONSTRAINT event_log_members_pkey PRIMARY KEY (member)
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

COMMENT ON COLUMN event_log_members.app IS
    'What the process can fold and carry out, as one text: partitions are shared by equals only.';

COMMENT ON COLUMN event_log_members.roles IS
    'What the process does: what follows commits is done elsewhere where an owner does it not.';

ALTER TABLE event_log_partitions ADD COLUMN owner_member UUID;

COMMENT ON COLUMN event_log_partitions.owner_member IS
    'Which process the owner is. It decides nothing: others see by it what they need not do.';
