-- name: notify
-- $1 channel TEXT, $2 payload TEXT. In a transaction of its own, outside of every commit: all that
-- notify take one lock of the whole server until they end, so it is not to wait for the disk. A
-- notification that is lost with the server costs nothing: who was to hear it looks by and by.
SELECT set_config('synchronous_commit', 'off', TRUE), pg_notify($1, $2);
