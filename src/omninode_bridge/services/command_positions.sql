-- name: position
-- $1 topic of the bus, $2 partition, $3 incarnation, $4 beginning. The position, made at the beginning
-- where there is none for this incarnation: what stood in another one is over.
INSERT INTO bus_positions AS p (consumer, topic, partition, home, incarnation, next)
VALUES ('store-effect', $1, $2, $2, $3, $4)
ON CONFLICT (topic, partition, consumer, home) DO UPDATE
SET next = CASE WHEN p.incarnation = $3 THEN greatest(p.next, $4) ELSE $4 END, incarnation = $3,
    updated_at = now()
RETURNING next;

-- name: advance
-- $1 topic of the bus, $2 partition, $3 incarnation, $4 next. It never goes back.
UPDATE bus_positions SET next = greatest(next, $4), updated_at = now()
WHERE consumer = 'store-effect' AND topic = $1 AND partition = $2 AND home = $2 AND incarnation = $3;

-- name: go_back
-- $1 topic of the bus, $2 partition, $3 incarnation, $4 next. For one who has found that the topic is
-- shorter than it was.
UPDATE bus_positions SET next = $4, updated_at = now()
WHERE consumer = 'store-effect' AND topic = $1 AND partition = $2 AND home = $2 AND incarnation = $3;
