-- name: beat
-- $1 member UUID, $2 name TEXT, $3 app TEXT, $4 roles TEXT[], $5 over the bus BOOLEAN, $6 lasts
-- INTERVAL, $7 incarnation of the log UUID. By the database's clock.
INSERT INTO event_log_members AS m (member, name, app, roles, over_bus, joined_at, seen_until)
SELECT $1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp() + $6
WHERE event_log_require_incarnation($7)
ON CONFLICT (member) DO UPDATE
SET joined_at = CASE WHEN m.seen_until < clock_timestamp()
                     THEN clock_timestamp() ELSE m.joined_at END,
    roles = $4, over_bus = $5,
    seen_until = clock_timestamp() + $6;

-- name: members
-- Who is there. The id orders those who came in the same microsecond.
SELECT member, name, app, roles, over_bus FROM event_log_members
WHERE seen_until >= clock_timestamp() ORDER BY joined_at, member;

-- name: leave
-- $1 member UUID. With it go those who ended without a word.
DELETE FROM event_log_members WHERE member IN (
    SELECT member FROM event_log_members
    WHERE member = $1 OR seen_until < clock_timestamp() - INTERVAL '1 hour'
    ORDER BY member FOR UPDATE
);

-- name: forget
-- All of them. For one who knows that no other process lives on this database.
DELETE FROM event_log_members;

-- name: owners
-- Who holds what, for as long as they hold it.
SELECT partition, owner_member FROM event_log_partitions
WHERE owner_member IS NOT NULL AND lease_until >= clock_timestamp();

-- name: free
-- What can be taken at once: a partition under somebody's lock is left out. A commit that lasts
-- longer than the lease lengthens it at its end, and a backend whose client has gone in the middle of
-- a transaction is ended by the server before long (`lock_partition`): neither is worth a wait, which
-- would keep us from saying that we are here, and from the other partitions.
SELECT partition FROM event_log_partitions
WHERE owner IS NULL OR lease_until < clock_timestamp() ORDER BY partition
FOR KEY SHARE SKIP LOCKED;
