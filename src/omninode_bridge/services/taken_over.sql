-- name: position
-- $1 topic of the bus, $2 partition, $3 incarnation, $4 beginning, $5 incarnation of our log UUID. The
-- position, made at the beginning where there is none, and the incarnation that it holds for.
INSERT INTO bus_positions AS p (consumer, topic, partition, home, incarnation, next)
SELECT 'intake', $1, $2, $2, $3, $4 WHERE event_log_require_incarnation($5)
ON CONFLICT (topic, partition, consumer, home) DO UPDATE SET next = p.next
RETURNING incarnation, next;

-- name: take_over
-- $1 partition, $2 keys TEXT[], $3 ids UUID[], $4 bodies TEXT[], $5 due at TIMESTAMPTZ[] or NULL,
-- $6 entries a segment, $7 topic of the bus, $8 its partition, $9 incarnation, $10 first and $11 next
-- position, $12 offsets BIGINT[], $13 incarnation of our log UUID. One row; the argument is with the
-- function (migration 010).
SELECT added, stored, first
FROM bus_take_over($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13);
