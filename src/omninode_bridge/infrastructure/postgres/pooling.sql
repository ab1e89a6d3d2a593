-- name: backend
-- Which backend serves this connection. Behind a pooler it is not the one that the pooler named.
SELECT pg_backend_pid();
