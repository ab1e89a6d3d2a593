DROP FUNCTION action_dedup_cleanup_expired;
DROP TABLE action_dedup_log;
