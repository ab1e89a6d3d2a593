-- name: acquire
-- $1 owner UUID, $2 name TEXT, $3 lease INTERVAL, $4 partition INT. One partition a statement (R11).
-- By the database's clock. The update waits for a commit under way and then looks again at the row
-- as it left it, so whoever takes a partition sees everything its last owner committed.
UPDATE event_log_partitions
SET owner = $1, owner_name = $2, lease_until = clock_timestamp() + $3
WHERE partition = $4
  AND (owner IS NULL OR owner = $1 OR lease_until < clock_timestamp())
RETURNING partition;

-- name: renew
-- $1 owner UUID, $2 lease INTERVAL, $3 partition INT. Nothing when another one has taken it.
UPDATE event_log_partitions
SET lease_until = clock_timestamp() + $2
WHERE partition = $3 AND owner = $1
RETURNING partition;

-- name: release
-- $1 owner UUID, $2 partition INT.
UPDATE event_log_partitions
SET owner = NULL, owner_name = NULL, lease_until = NULL
WHERE partition = $2 AND owner = $1;

-- name: break
-- $1 partition INT. For one who knows that no other process lives on this database.
UPDATE event_log_partitions
SET owner = NULL, owner_name = NULL, lease_until = NULL
WHERE partition = $1;

-- name: holders
-- Who holds what.
SELECT partition, owner, owner_name, lease_until, lease_until < clock_timestamp() AS expired
FROM event_log_partitions ORDER BY partition;
