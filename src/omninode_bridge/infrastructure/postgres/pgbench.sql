-- name: create_database
-- A database of pgbench's own, beside the bridge's on the same server.
CREATE DATABASE omninode_bridge_pgbench;

-- name: drop_database
-- Whatever an earlier run left, and the sessions of a pgbench that was killed.
DROP DATABASE IF EXISTS omninode_bridge_pgbench WITH (FORCE);
