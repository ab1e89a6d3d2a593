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
);

CREATE INDEX idx_action_dedup_expires ON action_dedup_log (expires_at);

COMMENT ON COLUMN action_dedup_log.expires_at IS '''infinity'' when remembered for ever.';
