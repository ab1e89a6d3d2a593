-- name: read_snapshots
-- $1 keys TEXT[]. Keys never seen give no row.
SELECT w.workflow_key, w.version, w.state::TEXT AS state,
       w.provenance ->> 'chain' AS chain,
       (w.provenance ->> 'epoch')::BIGINT AS epoch,
       (w.provenance ->> 'lease_id')::UUID AS lease_id
FROM unnest($1::TEXT[]) AS k(workflow_key)
JOIN workflow_state w ON w.workflow_key = k.workflow_key;

-- name: read_row
-- $1 key TEXT. The whole row, for those who look.
SELECT workflow_key, version, state::TEXT AS state, schema_version, updated_at,
       provenance::TEXT AS provenance
FROM workflow_state
WHERE workflow_key = $1;

-- name: commit
-- The batch of one partition; parameters and proof are with the function (migration 009).
SELECT refusal::TEXT AS refusal, state_committed_first, reducer_gave_up_first, intent_first
FROM event_log_commit_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
    $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39,
    $40, $41);

-- name: lock_partition
-- $1 partition INT, $2 milliseconds TEXT. Waits for whoever commits there, a backend whose client is
-- gone included: what it did is visible to every statement after this one (READ COMMITTED). Should
-- our client go, or stand still, while we hold the row, the server ends this transaction after $2:
-- otherwise nobody could take the partition until the connection is found dead, hours later.
-- Found from behind: rule 3 of migration 009.
SELECT partition, set_config('idle_in_transaction_session_timeout', $2, TRUE)
FROM event_log_partitions WHERE partition BETWEEN $1 AND $1
ORDER BY partition DESC LIMIT 1 FOR UPDATE;

-- name: recall
-- $1 keys TEXT[], $2 action ids UUID[], pairwise. Remembered outcomes, with the log entry of those
-- that are commits: the one of that key and version, which is so whatever partition it is in. Ids not
-- remembered give no row.
SELECT d.workflow_key, d.action_id, d.request_hash, d.version, d.outcome::TEXT AS outcome,
       e.body::TEXT AS entry, e.committed_at
FROM unnest($1::TEXT[], $2::UUID[]) AS a(workflow_key, action_id)
JOIN action_dedup_log d ON d.workflow_key = a.workflow_key AND d.action_id = a.action_id
LEFT JOIN event_log_state_committed e
    ON e.workflow_key = d.workflow_key AND e.version = d.version
   AND d.outcome ->> 'event' = 'StateCommitted';
