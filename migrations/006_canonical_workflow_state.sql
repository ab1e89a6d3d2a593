-- The truth: one row a workflow key, the canonical state.
--
-- No index but the primary key: an index over version or updated_at would keep every update from
-- being HOT. The fill factor leaves room for the new row version on the same page.
CREATE TABLE workflow_state (
    workflow_key   TEXT        NOT NULL,
    version        BIGINT      NOT NULL DEFAULT 1,
    state          JSONB       NOT NULL,
    updated_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    schema_version INT         NOT NULL DEFAULT 1,
    provenance     JSONB       NOT NULL,
    CONSTRAINT workflow_state_pkey PRIMARY KEY (workflow_key),
    CONSTRAINT workflow_state_version_positive CHECK (version >= 1)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE workflow_state IS 'Canonical state: what each workflow key is now (R2).';
