DROP FUNCTION timers_fire;
DROP FUNCTION bus_take_over;
DROP FUNCTION event_log_append_actions;
DROP FUNCTION event_log_put_actions;
DROP FUNCTION event_log_write_actions;
DROP TABLE timers;
