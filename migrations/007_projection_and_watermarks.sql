-- The queryable copy, and how far it has come (R7).
CREATE TABLE workflow_projection (
    workflow_key TEXT        NOT NULL,
    version      BIGINT      NOT NULL,
    tag          TEXT        NOT NULL,
    last_action  TEXT,
    namespace    TEXT        NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL,
    indices      JSONB,
    extras       JSONB,
    CONSTRAINT workflow_projection_pkey PRIMARY KEY (workflow_key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- The key is the second column, so that a page of a listing is read from the index in order.
CREATE INDEX idx_projection_namespace ON workflow_projection (namespace, workflow_key);
CREATE INDEX idx_projection_tag ON workflow_projection (tag, workflow_key);

CREATE TABLE projection_watermarks (
    partition_id TEXT        NOT NULL,
    "offset"     BIGINT      NOT NULL DEFAULT 0,
    updated_at   TIMESTAMPTZ NOT NULL,
    CONSTRAINT projection_watermarks_pkey PRIMARY KEY (partition_id)
) WITH (fillfactor = 50);

COMMENT ON TABLE workflow_projection IS
    'The queryable copy: at watermark W it is the projection of the fold up to W (R7).';
COMMENT ON COLUMN projection_watermarks."offset" IS
    'The next offset of <topic>/<number> that the projection will read.';
