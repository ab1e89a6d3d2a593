-- name: acquire
-- $1 owner UUID, $2 name TEXT, $3 lease INTERVAL, $4 partition INT, $5 member UUID, $6 incarnation of
-- the log UUID. One partition a statement (R11).
-- By the database's clock. The update waits for a commit under way and then looks again at the row
-- as it left it, so whoever takes a partition sees everything its last owner committed.
UPDATE event_log_partitions
SET owner = $1, owner_name = $2, owner_member = $5, lease_until = clock_timestamp() + $3
WHERE partition = $4
  AND (owner IS NULL OR owner = $1 OR lease_until < clock_timestamp())
  AND event_log_require_incarnation($6)
RETURNING partition;

-- name: require
-- $1 incarnation of the log UUID. Refuses who counts by another one, whatever there is to take.
SELECT event_log_require_incarnation($1);

-- name: renew
-- $1 owner UUID, $2 lease INTERVAL, $3 partition INT. Nothing when another one has taken it.
UPDATE event_log_partitions
SET lease_until = clock_timestamp() + $2
WHERE partition = $3 AND owner = $1
RETURNING partition;

-- name: release
-- $1 owner UUID, $2 partition INT.
UPDATE event_log_partitions
SET owner = NULL, owner_name = NULL, owner_member = NULL, lease_until = NULL,
    effects_member = CASE WHEN effects_owner IS NOT NULL THEN effects_member END
WHERE partition = $2 AND owner = $1;

-- name: break
-- $1 partition INT. For one who knows that no other process lives on this database.
UPDATE event_log_partitions
SET owner = NULL, owner_name = NULL, owner_member = NULL, lease_until = NULL,
    effects_owner = NULL, effects_member = NULL
WHERE partition = $1;

-- name: take_effects_apart
-- $1 owner UUID, $2 member UUID, $3 partition INT, $4 incarnation of the log UUID. Apart from the
-- partition's owner: from nobody who is there.
UPDATE event_log_partitions p
SET effects_owner = $1, effects_member = $2
WHERE p.partition = $3
  AND (p.effects_member IS NULL OR p.effects_owner = $1 OR NOT EXISTS (
      SELECT FROM event_log_members m
      WHERE m.member = p.effects_member AND m.seen_until >= clock_timestamp()))
  AND event_log_require_incarnation($4)
RETURNING p.partition;

-- name: take_effects
-- $1 the partition's owner UUID, $2 member UUID, $3 partition INT, $4 incarnation of the log UUID.
-- From nobody who is there.
UPDATE event_log_partitions p
SET effects_owner = NULL, effects_member = $2
WHERE p.partition = $3 AND p.owner = $1
  AND (p.effects_member IS NULL OR (p.effects_owner IS NULL AND p.effects_member = $2) OR NOT EXISTS (
      SELECT FROM event_log_members m
      WHERE m.member = p.effects_member AND m.seen_until >= clock_timestamp()))
  AND event_log_require_incarnation($4)
RETURNING p.partition;

-- name: leave_effects
-- $1 owner UUID, $2 partition INT.
UPDATE event_log_partitions
SET effects_owner = NULL, effects_member = NULL
WHERE partition = $2 AND (effects_owner = $1 OR (effects_owner IS NULL AND owner = $1));

-- name: holders
-- Who holds what.
SELECT partition, owner, owner_name, lease_until, lease_until < clock_timestamp() AS expired
FROM event_log_partitions ORDER BY partition;
