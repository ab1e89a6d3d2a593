DROP FUNCTION timers_fire;
DROP FUNCTION event_log_append_actions;
DROP FUNCTION event_log_write_actions;
DROP TABLE timers;
