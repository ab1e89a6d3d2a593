DROP TABLE action_dedup_log;
