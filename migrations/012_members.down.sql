DROP TABLE event_log_members;
